/*
 * search_read.c
 *		Nodes as a search reads them: the children of inner nodes are queued, the rows
 *		of lists are tested.
 *
 * DESIGN.md, section 4.
 */
#include "postgres.h"

#include "search_private.h"

#include "kernels/kernels.h"

/* Pages of the next node that the processor is asked for */
#define MAX_AHEAD 8

/* Bytes of a list's head page, of each column, and codes that it is asked for */
#define HEAD_AHEAD 128
#define COLUMN_AHEAD 256
#define CODES_AHEAD 64

/* Lists whose imprints are asked before it is judged whether that pays, and the share of them it must rule out */
#define ASKED_BEFORE 64
#define RULED_OUT_SHARE 0.25

/* Prepare the query for the node whose centroid has been read */
void
winnow_search_prepare(WinnowSearch *search)
{
	winnow_query_prepare(search->code, search->index->metric, search->query, search->centroid,
						 search->index->dims);
	search->refinable = PG_UINT32_MAX;
}

/* The view is of a node's first group: remember where its centroid is */
static void
keep_first_data(WinnowSearch *search)
{
	search->nfirst_data = search->view->ndata;
	memcpy(search->first_data, search->view->data,
		   sizeof(BlockNumber) * search->view->ndata);
}

/*
 * Queue the children of the view's inner node that the filter cannot rule out.
 * Returns false if a page is gone.
 */
static bool
queue_children(WinnowSearch *search, const WinnowQueueItem *node, bool *prepared)
{
	const WinnowIndex *index = search->index;
	WinnowView *view = search->view;

	search->counters->lists_pruned += view->nlive - view->nselected;
	for (int i = 0; i < view->nselected && search->gathering; i++)
	{
		WinnowQueueItem item = {0};

		item.block = (BlockNumber) view->ids[i];
		item.level = node->level - 1;
		item.asof = view->asof;
		item.rows = view->stats[i].rows;
		winnow_items_add(&search->rest, item);
	}
	if (view->nselected == 0 || search->gathering)
		return true;
	if (!*prepared)
	{
		if (!winnow_centroid_read(search->rel, index, search->first_data, search->nfirst_data,
								  view->asof, search->centroid))
			return false;
		winnow_search_prepare(search);
		if (search->recall.described == 0)
			search->recall.root2 = winnow_kernels->inner_product(search->centroid,
																 search->centroid,
																 index->dims);
		*prepared = true;
	}
	if (!winnow_view_estimate(search->rel, index, view, search->code, 0, search->estimate,
							  search->lower, search->error, search->norm))
		return false;
	for (int i = 0; i < view->nselected; i++)
	{
		WinnowQueueItem *item = winnow_queue_item(&search->queue);

		item->block = (BlockNumber) view->ids[i];
		item->level = node->level - 1;
		item->asof = view->asof;
		winnow_recall_describe(&search->recall, search->estimate[i], search->error[i],
							   &view->stats[i],
							   node->spread + search->norm[i] * search->norm[i], item);
		winnow_queue_enter(&search->queue);
		search->least_key = Min(search->least_key, item->key);
	}
	return true;
}

/* Queue the children of an inner node.  Returns false if a page is gone. */
bool
winnow_search_expand(WinnowSearch *search, const WinnowQueueItem *node)
{
	WinnowView *view = search->view;
	BlockNumber block = node->block;
	XLogRecPtr	asof = node->asof;
	bool		prepared = false;
	bool		whole = true;

	view->hold_first = true;
	view->held = InvalidBuffer;
	search->counters->inner_nodes++;
	search->least_key = INFINITY;
	for (bool first = true; BlockNumberIsValid(block) && whole; first = false)
	{
		whole = winnow_view_read(search->rel, search->index, block, node->level, asof,
								 search->filter, view);
		if (whole && first)
			keep_first_data(search);
		whole = whole && queue_children(search, node, &prepared);
		block = view->next;
		asof = view->asof;
	}
	if (BufferIsValid(view->held))
		UnlockReleaseBuffer(view->held);
	view->hold_first = false;
	if (view->nasked >= ASKED_BEFORE && view->nruled_out < RULED_OUT_SHARE * view->nasked)
		view->asks_imprints = false;
	/* keys of inner nodes are guesses themselves */
	if (!search->recall.exact && node->level == 1)
		winnow_queue_learn(&search->queue, node, search->least_key);
	/* those of its children are queued now */
	if (!search->gathering)
		search->recall.unread -= node->rows;
	return whole;
}

/* Rows in doubt have their turn when nothing else is left */
static void
put_off(WinnowSearch *search, const WinnowView *view)
{
	search->ndoubtful += view->ndoubtful;
	for (int i = 0; i < view->ndoubtful && !view->without_ids; i++)
		candidates_add(&search->pool, (Candidate){INFINITY, 0, view->ids[view->nselected + i],
												  WINNOW_NO_PLACE});
}

/* A view of a list's group */
WinnowView *
winnow_search_list_view(const WinnowSearch *search)
{
	WinnowView *view = winnow_view_alloc(search->index);

	view->sets_apart = search->target < 1;
	return view;
}

/*
 * Read the head pages of a list into views: which rows pass the filter.  Those in doubt
 * become candidates, unless rows are left: then none has got an id.  Returns the number of the others,
 * or -1 if a page is gone.
 */
int
winnow_search_read_list(WinnowSearch *search, BlockNumber block, XLogRecPtr asof, bool leaves)
{
	int			passed = 0;

	search->ngroups = 0;
	search->refinable = PG_UINT32_MAX;
	while (BlockNumberIsValid(block))
	{
		WinnowView *view;

		if (search->ngroups == search->allocated)
		{
			search->allocated *= 2;
			search->groups = repalloc(search->groups,
									  sizeof(WinnowView *) * search->allocated);
			for (int i = search->ngroups; i < search->allocated; i++)
				search->groups[i] = winnow_search_list_view(search);
		}
		view = search->groups[search->ngroups];
		view->next = InvalidBlockNumber;
		view->without_ids = leaves;
		if (search->ngroups > 0)
		{
			/* this view goes on where the one before it is */
			view->next = block;
			view->chain = search->groups[search->ngroups - 1]->chain;
		}
		if (!winnow_view_read(search->rel, search->index, block, 0, asof, search->filter, view))
			return -1;
		passed += view->nselected;
		put_off(search, view);
		search->ngroups++;
		block = view->next;
		asof = view->asof;
	}
	return passed;
}

/* Count the list that has been read.  Returns the number of its rows. */
int
winnow_search_count_list(WinnowSearch *search, int passed)
{
	int			tested = 0;

	for (int g = 0; g < search->ngroups; g++)
		tested += search->groups[g]->nlive;
	search->nprobed++;
	search->ntested += tested;
	search->counters->lists_probed++;
	search->counters->rows_tested += tested;
	search->counters->rows_passed += passed;
	return tested;
}

/*
 * Ask the processor for a list that will most likely be read next: what the filter looks at first on its head
 * pages, and its centroid.  Codes are asked for here only if there is no filter; otherwise when
 * it is known of which rows.  A list that was written as a whole has its pages in a row.
 */
static void
prefetch_list(const WinnowSearch *search, const WinnowQueueItem *list)
{
	const WinnowLayout *layout = &search->index->leaf;
	bool		filtered = search->first_column >= 0;
	int			column = layout->schema_column + search->first_column;
	int			nrows = (int) Min(list->rows, layout->size);
	int			nheads = Max(1, (nrows + layout->capacity - 1) / layout->capacity);
	int			npages = Min(winnow_scanned_pages(search->index, 0, nrows), MAX_AHEAD);

	for (int p = 0; p < npages; p++)
	{
		BlockNumber block = list->block + p;

		if (p < nheads)
			winnow_prefetch(search->rel, block, 0, HEAD_AHEAD);
		if (p < nheads && filtered)
			winnow_prefetch(search->rel, block, layout->page_offset[column],
							Min(layout->width[column] * layout->capacity, COLUMN_AHEAD));
		if (p == nheads || (p > nheads && !filtered))
			winnow_prefetch(search->rel, block, 0, WINNOW_RUN_AHEAD);
	}
}

/* Ask the processor for the node that will most likely be read next */
void
winnow_search_prefetch(const WinnowSearch *search, const WinnowQueueItem *node)
{
	int			nrows = (int) (search->index->inner.size * WINNOW_NODE_FILL);
	int			npages = Min(winnow_scanned_pages(search->index, node->level, nrows), MAX_AHEAD);

	if (node->level == 0)
		prefetch_list(search, node);
	else
		for (int p = 0; p < npages; p++)
			winnow_prefetch(search->rel, node->block + p, 0, WINNOW_RUN_AHEAD);
}

/*
 * Ask the processor for the codes of the rows that pass of the list whose head pages have been
 * read.  Many of them come one after the other, which it sees by itself.
 */
void
winnow_search_prefetch_codes(const WinnowSearch *search, int passed)
{
	const WinnowLayout *layout = &search->index->leaf;

	if (passed > CODES_AHEAD)
		return;
	for (int g = 0; g < search->ngroups; g++)
	{
		const WinnowView *view = search->groups[g];

		for (int i = 0; i < view->nselected; i++)
		{
			int			page;
			int			offset;

			winnow_code_place(layout, view->number, view->selected[i], &page, &offset);
			if (page < view->ndata)
				winnow_prefetch(search->rel, view->data[page], SizeOfPageHeaderData + offset,
								search->index->code_bytes);
		}
	}
}
