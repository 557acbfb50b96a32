/*
 * search.c
 *		The walk over the tree for one query: probe, estimate, rerank, stop.
 *
 * DESIGN.md, section 4.  A search can be deepened any number of times; it goes
 * on from where it stopped.
 */
#include "postgres.h"

#include "search_private.h"

#include <float.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/float.h"
#include "utils/memutils.h"

/* Standard deviations that bounds by refinement codes allow for, or more */
#define REFINED_EPSILON 3.0f

/* The first goal where the number of rows wanted is not known */
#define FIRST_GOAL 10

/* Rows that will be returned next, which the processor is asked for */
#define ROWS_AHEAD 8

/* The score of an operator's distance; what is NaN comes last */
static double
score_of(const WinnowSearch *search, double distance)
{
	if (isnan(distance))
		return INFINITY;
	switch (search->index->metric)
	{
		case WINNOW_METRIC_L2:
			return distance * distance;
		case WINNOW_METRIC_COSINE:
			return 2 * distance;
		default:
			return distance;
	}
}

/*
 * Candidates above this cannot be among the k best, if those are wanted rather
 * than all rows.  Bounds allow for the rounding of sums, the operators' included (winnow_score_slack); not for
 * that of their results to float, nor for that of a cosine near 1.
 */
static double
threshold(const WinnowSearch *search)
{
	double		top;

	if (search->best.count < search->wanted || search->wanted == 0)
		return INFINITY;
	top = search->best.items[0].score;
	return top + 1e-5 * (fabs(top) + (search->index->metric == WINNOW_METRIC_COSINE));
}

static void
best_offer(WinnowSearch *search, const Found *row)
{
	Score		score = {score_of(search, row->distance), row->list};

	if (search->best.count < search->wanted)
		scores_push(&search->best, score);
	else if (search->wanted > 0 && score.score < search->best.items[0].score)
	{
		search->best.items[0] = score;
		scores_sift_down(&search->best, 0);
	}
}

/* All candidates in the pool become active */
void
winnow_search_activate(WinnowSearch *search)
{
	if (search->active.count == 0)
	{
		candidates_heap empty = search->active;

		search->active = search->pool;
		search->pool = empty;
	}
	for (Size i = 0; i < search->pool.count; i++)
		candidates_add(&search->active, search->pool.items[i]);
	search->pool.count = 0;
	candidates_order(&search->active);
}

/* Set a new goal: what counts is the k-th best of all rows found */
static void
set_goal(WinnowSearch *search, int64 goal)
{
	search->goal = goal;
	search->wanted = goal - search->nreturned;
	search->best.count = 0;
	for (Size i = 0; i < search->results.count; i++)
		best_offer(search, &search->results.items[i]);
	search->recall.next_check = 0;

	/* what was not good enough for the last goal may be now */
	winnow_search_activate(search);
}

static int
compare_ids(const void *a, const void *b)
{
	uint64		first = *(const uint64 *) a;
	uint64		second = *(const uint64 *) b;

	return first < second ? -1 : first > second;
}

/*
 * Of rows that pass the filter by their columns, the share that turns out to match,
 * as far as can be told from those fetched
 */
double
winnow_search_accepted(const WinnowSearch *search)
{
	double		found = (double) (search->nfound - search->nbefore);

	return (found + 1) / (found + (double) search->nrejected + 1);
}

/*
 * Fetch a candidate's heap row; if it matches, it becomes a result.  The vector may be the value of an
 * index expression: it is evaluated for rows that match alone, as the others may be hidden by a policy.
 */
static void
rerank(WinnowSearch *search, const Candidate *candidate, const WinnowRowPlace *place)
{
	uint64		id = candidate->id;
	IndexScanDesc scan = search->scan;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	Found		result = {.distance = get_float8_nan(), .id = id, .list = candidate->list};
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	search->ndoubtful -= candidate->lower == INFINITY;
	if (search->nsorted > 0 &&
		bsearch(&id, search->returned, search->nsorted, sizeof(uint64), compare_ids))
		return;
	search->counters->reranked++;
	if (!winnow_fetch_row(search->fetch, id, place, scan->xs_snapshot))
	{
		search->counters->invisible++;
		return;
	}
	old = MemoryContextSwitchTo(winnow_fetch_context(search->fetch));
	winnow_fetch_values(search->fetch, search->rechecked, values, isnull);
	if (!winnow_filter_recheck(search->filter, values, isnull) ||
		(search->tester != NULL &&
		 !winnow_row_passes(search->tester, winnow_fetch_slot(search->fetch))))
	{
		search->counters->rechecked_out++;
		search->nrejected++;
		MemoryContextSwitchTo(old);
		return;
	}
	winnow_fetch_values(search->fetch, search->compared, values, isnull);
	result.at = winnow_fetch_place(search->fetch);
	if (scan->numberOfOrderBys > 1)
	{
		result.nmore = scan->numberOfOrderBys - 1;
		result.more = MemoryContextAlloc(old, sizeof(double) * result.nmore);
	}
	for (int i = 0; i < scan->numberOfOrderBys; i++)
	{
		ScanKey		key = &scan->orderByData[i];
		double		distance = get_float8_nan();

		if (!(key->sk_flags & SK_ISNULL) && !isnull[key->sk_attno - 1])
			distance = DatumGetFloat8(FunctionCall2Coll(&key->sk_func, key->sk_collation,
														values[key->sk_attno - 1],
														key->sk_argument));
		if (i == 0)
			result.distance = distance;
		else
			result.more[i - 1] = distance;
	}
	MemoryContextSwitchTo(old);
	result.nprobed = search->nprobed;
	result.ntested = search->ntested;
	results_push(&search->results, result);
	best_offer(search, &result);
	search->nfound++;
}

/*
 * Rerank candidates in the given order, as far as they may be among the k best;
 * the others remain active.
 */
void
winnow_search_rerank(WinnowSearch *search, const Candidate *candidates, int n)
{
	uint64		ids[WINNOW_ROWS_AT_ONCE] = {0};
	WinnowRowPlace places[WINNOW_ROWS_AT_ONCE];

	for (int i = 0; i < n; i++)
		ids[i] = candidates[i].id;
	winnow_fetch_prepare(search->fetch, ids, n, places);
	for (int i = 0; i < n; i++)
	{
		if (candidates[i].lower > threshold(search))
			candidates_push(&search->active, candidates[i]);
		else
			rerank(search, &candidates[i], &places[i]);
	}
}

#ifdef USE_ASSERT_CHECKING
/* Was the row, when the view was read, the one in that slot? */
static bool
is_row_of(const WinnowView *view, int slot, uint64 id)
{
	for (int i = 0; i < view->nselected; i++)
		if (view->selected[i] == slot)
			return view->ids[i] == id;
	return false;
}
#endif

/*
 * Put a better bound in the place of that of a candidate of the list that was read
 * last, by its refinement code.  It is so narrow that to be surer of it costs little.
 * Returns false if a page is gone.
 */
static bool
refine(WinnowSearch *search, Candidate *candidate)
{
	const WinnowLayout *layout = &search->index->leaf;
	const WinnowView *view = search->groups[candidate->place / layout->capacity];

	Assert(is_row_of(view, candidate->place % layout->capacity, candidate->id));
	if (!search->prepared)
		winnow_refinement_prepare(search->refined, search->code);
	search->prepared = true;
	if (!winnow_record_read(search->rel, layout, view->block, view->records,
							view->nrecord_pages, candidate->place % layout->capacity,
							view->asof, search->record))
		return false;
	candidate->lower = Min(winnow_refine(search->refined, search->record, search->index->bits,
										 Max(search->recall.epsilon, REFINED_EPSILON), NULL),
						   FLT_MAX);
	candidate->place = WINNOW_NO_PLACE;
	search->counters->refined++;
	return true;
}

/*
 * Does a better bound help?  Not as long as whatever comes is fetched, and most of
 * that is only to be tested for the executor's conditions.
 */
static bool
worth_refining(const WinnowSearch *search, double limit)
{
	return limit < INFINITY || winnow_search_accepted(search) > 0.5;
}

/* Is it a candidate's turn?  Rows in doubt wait until there is no list left. */
static bool
has_turn(const WinnowSearch *search, const Candidate *candidate, double limit)
{
	return candidate->lower <= limit &&
		(candidate->lower < INFINITY || winnow_queue_empty(&search->queue));
}

/*
 * Rerank, best first, whatever may be among the k best.  Returns false if a page is
 * gone.
 */
static bool
rerank_active(WinnowSearch *search)
{
	for (;;)
	{
		Candidate	next[WINNOW_ROWS_AT_ONCE];
		double		limit = threshold(search);
		int			n = 0;

		while (n < WINNOW_ROWS_AT_ONCE && search->active.count > 0 &&
			   has_turn(search, &search->active.items[0], limit))
		{
			next[n] = candidates_pop(&search->active);
			if (next[n].place == WINNOW_NO_PLACE || next[n].list != search->refinable ||
				!worth_refining(search, limit))
				n++;
			else if (refine(search, &next[n]))
				candidates_push(&search->active, next[n]);
			else
				return false;
		}
		if (n == 0)
			return true;
		winnow_search_rerank(search, next, n);
	}
}

/* Read the list's centroid, for which the query is prepared.  Returns false if a page is gone. */
static bool
prepare_list(WinnowSearch *search)
{
	const WinnowView *first = search->groups[0];

	if (!winnow_centroid_read(search->rel, search->index, first->data, first->ndata, first->asof,
							  search->centroid))
		return false;
	winnow_search_prepare(search);
	return true;
}

static Candidate
candidate_of(const WinnowSearch *search, uint32 list, int group, int i)
{
	const WinnowView *view = search->groups[group];
	int			place = group * search->index->leaf.capacity + view->selected[i];

	return (Candidate){Min(search->lower[i], FLT_MAX), list, view->ids[i],
					   search->refined != NULL ? Min(place, WINNOW_NO_PLACE) : WINNOW_NO_PLACE};
}

/*
 * Rows of a group that has been estimated become active candidates if they are good enough.  If "taken" is
 * NULL the others go to the pool, else the bits of those that became candidates are set in it, and the
 * others are left.  Returns how many became active, or -1 if a page is gone.
 */
static int
take_rows(WinnowSearch *search, uint32 list, int group, double limit, uint64 *taken)
{
	WinnowView *view = search->groups[group];
	uint16		good[WINNOW_MAX_LIST_SIZE];
	int			n = 0;

	for (int i = 0; i < view->nselected; i++)
	{
		good[n] = (uint16) i;
		n += Min(search->lower[i], FLT_MAX) <= limit;
		if (taken == NULL && !(Min(search->lower[i], FLT_MAX) <= limit))
			candidates_add(&search->pool, candidate_of(search, list, group, i));
	}
	if (n > 0 && taken != NULL && !winnow_view_name(search->rel, search->index, view, good, n))
		return -1;
	for (int i = 0; i < n; i++)
	{
		int			slot = view->selected[good[i]];

		candidates_push(&search->active, candidate_of(search, list, group, good[i]));
		if (taken != NULL)
			winnow_bit_set(taken, slot);
	}
	return n;
}

/* Room for the bits of the rows taken of the list that has been read; returns where */
static Size
add_taken(WinnowSearch *search)
{
	Size		first = search->taken.count;

	for (int i = 0; i < search->ngroups * search->index->leaf.group_words; i++)
		words_add(&search->taken, 0);
	return first;
}

/*
 * Estimate the rows that pass the filter of the list that has been read, for
 * which the query has been prepared, and take the good ones.  Returns their number, or
 * -1 if a page is gone.
 */
static int
estimate_list(WinnowSearch *search, uint32 list, bool leaves, Size first)
{
	double		limit = threshold(search);
	int			ntaken = 0;

	for (int g = 0; g < search->ngroups; g++)
	{
		WinnowView *view = search->groups[g];
		int			n;

		if (!winnow_view_estimate(search->rel, search->index, view, search->code,
								  search->recall.epsilon, search->estimate, search->lower, NULL, NULL))
			return -1;
		search->counters->codes_estimated += view->nselected;
		n = take_rows(search, list, g, limit, leaves ? &search->taken.items[first + g * search->index->leaf.group_words] : NULL);
		if (n < 0)
			return -1;
		ntaken += n;
	}
	search->refinable = list;
	search->prepared = false;
	return ntaken;
}

/* Remember the list that has been read, if there are rows that were not taken */
static void
leave_list(WinnowSearch *search, const WinnowQueueItem *list, Size first, int ntaken)
{
	Size		nleft = 0;
	Size		ndoubtful = 0;

	for (int g = 0; g < search->ngroups; g++)
	{
		nleft += search->groups[g]->nselected;
		ndoubtful += search->groups[g]->ndoubtful;
	}
	nleft = nleft - ntaken + ndoubtful;
	if (nleft == 0)
		search->taken.count = first;
	else
		lefts_add(&search->left, (WinnowLeft){list->block, list->asof, list->number, search->ngroups, first});
	search->nleft += nleft;
	search->nleft_doubtful += ndoubtful;
}

/*
 * More rows are wanted: those that lists were left with become candidates.  Returns false
 * if a page is gone.
 */
bool
winnow_search_collect(WinnowSearch *search)
{
	int			words = search->index->leaf.group_words;

	if (search->left.count == 0)
		return true;
	search->ndoubtful -= search->nleft_doubtful;
	for (Size l = 0; l < search->left.count; l++)
	{
		const WinnowLeft *left = &search->left.items[l];
		int			passed;

		CHECK_FOR_INTERRUPTS();
		passed = winnow_search_read_list(search, left->block, left->asof, false);
		if (passed < 0 || (passed > 0 && !prepare_list(search)))
			return false;
		for (int g = 0; g < left->ngroups && passed > 0; g++)
		{
			const WinnowView *view = search->groups[g];
			const uint64 *taken = &search->taken.items[left->taken + g * words];

			if (!winnow_view_estimate(search->rel, search->index, view, search->code,
									  search->recall.epsilon, search->estimate, search->lower, NULL, NULL))
				return false;
			search->counters->codes_estimated += view->nselected;
			for (int i = 0; i < view->nselected; i++)
				if (!winnow_bit_get(taken, view->selected[i]))
				{
					Candidate	candidate = candidate_of(search, left->list, g, i);

					/* its refinement code would be looked for in the list read last */
					candidate.place = WINNOW_NO_PLACE;
					candidates_add(&search->pool, candidate);
				}
		}
	}
	search->refinable = PG_UINT32_MAX;
	search->left.count = 0;
	search->taken.count = 0;
	search->nleft = 0;
	search->nleft_doubtful = 0;
	winnow_search_activate(search);
	return true;
}

/* Read a list, and rerank its best rows.  Returns false if a page is gone. */
static bool
probe(WinnowSearch *search, WinnowQueueItem *list)
{
	bool		leaves = search->nrounds == 1;
	int			passed = winnow_search_read_list(search, list->block, list->asof, leaves);
	int64		nfound = search->nfound;
	int64		nrejected = search->nrejected;
	Size		first = 0;
	int			ntaken = 0;
	int			tested;
	bool		matched;

	if (passed < 0)
		return false;
	WINNOW_WAIT_POINT("scan-tested");
	list->number = PG_UINT32_MAX;
	if (leaves)
		first = add_taken(search);
	if (passed > 0)
	{
		winnow_search_prefetch_codes(search, passed);
		if (!prepare_list(search))
			return false;
		/* it was queued with an estimate */
		list->centroid_score = (float) search->code->centroid_score;
		list->error = 0;
		list->number = search->nestimated++;
		ntaken = estimate_list(search, list->number, leaves, first);
		if (ntaken < 0)
			return false;
	}
	if (leaves)
		leave_list(search, list, first, ntaken);
	tested = winnow_search_count_list(search, passed);
	WINNOW_WAIT_POINT("scan-estimated");
	if (!rerank_active(search))
		return false;

	/* it has no match, as far as can be told, if none of the rows fetched was accepted */
	matched = passed > 0 && (search->nfound > nfound || search->nrejected == nrejected);
	winnow_recall_probed(&search->recall, list, tested, passed, matched);
	return true;
}

static bool
reached(WinnowSearch *search)
{
	const WinnowQueueItem *late;
	int64		hits = 0;

	if (search->nfound < search->goal)
		return false;
	if (!search->directed)
		return search->scan->numberOfOrderBys < 2;
	if (!winnow_recall_due(&search->recall))
		return false;
	late = &search->recall.probed.items[winnow_recall_late(search->recall.probed.count)];
	for (Size i = 0; i < search->best.count; i++)
		hits += search->best.items[i].list >= late->number;
	search->recall.accepted = winnow_search_accepted(search);
	return winnow_recall_reached(&search->recall, &search->queue, threshold(search),
								 search->goal, (int64) search->best.count, hits);
}

/* Look at the root: its level, and about how many rows are below.  Returns false if a page is gone. */
static bool
look_at_root(WinnowSearch *search, WinnowQueueItem *root)
{
	WinnowView *view = search->view;
	BlockNumber block = root->block;
	XLogRecPtr	asof = root->asof;
	double		nrows = 0;

	do
	{
		if (!winnow_view_read(search->rel, search->index, block, -1, asof, NULL, view))
			return false;
		for (int i = 0; i < view->nselected && view->level > 0; i++)
			nrows += view->stats[i].rows;
		block = view->next;
		asof = view->asof;
	} while (view->level > 0 && BlockNumberIsValid(block));
	root->level = view->level;
	winnow_recall_grown(&search->recall, search->index, nrows);
	return true;
}

/* Start at the root, with nothing found but what has been returned */
static void
start(WinnowSearch *search)
{
	WinnowQueueItem root = {0};

	winnow_queue_clear(&search->queue);
	search->active.count = 0;
	search->pool.count = 0;
	search->left.count = 0;
	search->taken.count = 0;
	search->nleft = 0;
	search->nleft_doubtful = 0;
	search->results.count = 0;
	search->nestimated = 0;
	search->nfound = search->nreturned;
	search->nbefore = search->nreturned;
	search->nrejected = 0;
	search->ndoubtful = 0;
	winnow_recall_init(&search->recall, search->target, search->index, search->query);
	search->recall.expected = search->expected;
	set_goal(search, search->goal);
	for (;;)
	{
		root.block = winnow_read_root(search->rel, &root.asof);
		/* where a node was left when a page of it was gone: no way to get to the root */
		search->view->next = InvalidBlockNumber;
		if (look_at_root(search, &root))
			break;
		winnow_page_gone(search->rel, search->replaying, &search->restarts);
	}
	*winnow_queue_item(&search->queue) = root;
	winnow_queue_enter(&search->queue);
}

/*
 * A page that a pointer led to has become another one since the pointer was
 * read.  That is as old as a snapshot may be, so on the primary it does not
 * happen; on a standby VACUUM's replay does not wait for us.  The tree as it is
 * now has all that the snapshot sees, so the search starts again.
 */
void
winnow_search_start_again(WinnowSearch *search)
{
	winnow_page_gone(search->rel, search->replaying, &search->restarts);
	search->counters->restarts++;
	search->nsorted = search->nreturned;
	qsort(search->returned, search->nsorted, sizeof(uint64), compare_ids);
	start(search);
}

/* Find the k best rows, k being the goal */
static void
search_to_goal(WinnowSearch *search)
{
	bool		all;

	search->counters->rounds++;
	search->nrounds++;
	WINNOW_WAIT_POINT("scan-round");
	all = winnow_all_pays(search) && winnow_search_all(search);
	if (!all && !(winnow_search_collect(search) && rerank_active(search)))
		winnow_search_start_again(search);
	while (!all && !winnow_queue_empty(&search->queue) && !reached(search))
	{
		WinnowQueueItem node = *winnow_queue_pop(&search->queue);

		if (!winnow_queue_empty(&search->queue))
			winnow_search_prefetch(search, winnow_queue_top(&search->queue));
		if (!(node.level > 0 ? winnow_search_expand(search, &node) : probe(search, &node)))
			winnow_search_start_again(search);
		else if (node.level > 0)
			WINNOW_WAIT_POINT("scan-expanded");
		if (search->nprobed >= search->next_look)
		{
			search->next_look = search->nprobed * 2;
			all = winnow_all_pays(search) && winnow_search_all(search);
		}
	}
	winnow_fetch_idle(search->fetch);
}

/*
 * Start a search.  node is the plan node that the scan is for, or NULL; wanted is the
 * number of rows that will be asked for, where that is known; what is done is added to
 * the counters.  The query is the first ORDER BY key's; without one, or with a null,
 * rows come in no particular order.
 */
WinnowSearch *
winnow_search_begin(IndexScanDesc scan, const WinnowIndex *index,
					const WinnowFilter *filter, WinnowFetch *fetch, double target,
					IndexScanState *node, int64 wanted, WinnowScanCounters *counters)
{
	WinnowSearch *search = palloc0(sizeof(WinnowSearch));
	int			capacity = Max(index->leaf.capacity, index->inner.capacity);

	search->scan = scan;
	search->rel = scan->indexRelation;
	search->index = index;
	search->filter = filter;
	search->first_column = winnow_filter_first_column(filter);
	search->fetch = fetch;
	search->rechecked = winnow_filter_rechecked(filter);
	search->compared = bms_make_singleton(index->schema.vector_attno);
	search->counters = counters;
	search->query = palloc0(sizeof(float) * index->dims);
	if (scan->numberOfOrderBys > 0 && !(scan->orderByData[0].sk_flags & SK_ISNULL))
		search->directed = winnow_index_vector(index, scan->orderByData[0].sk_argument,
											   search->query);
	search->target = target;
	if (node != NULL)
	{
		search->expected = node->ss.ps.plan->plan_rows;
		search->tester = winnow_tests_rows(node) ? node : NULL;
	}
	search->replaying = RecoveryInProgress();
	search->code = palloc(winnow_query_bytes(index->dims));
	search->refinable = PG_UINT32_MAX;
	if (index->bits > 1)
	{
		search->refined = palloc(winnow_refinement_query_bytes(index->dims));
		search->record = palloc(index->leaf.record_bytes);
	}
	search->centroid = palloc(sizeof(float) * index->dims);
	search->estimate = palloc(sizeof(float) * capacity);
	search->lower = palloc(sizeof(float) * capacity);
	search->error = palloc(sizeof(float) * capacity);
	search->norm = palloc(sizeof(float) * capacity);
	search->view = winnow_view_alloc(index);
	search->view->asks_imprints = winnow_filter_asks_imprints(filter);
	search->allocated = 4;
	search->groups = palloc(sizeof(WinnowView *) * search->allocated);
	for (int i = 0; i < search->allocated; i++)
		search->groups[i] = winnow_search_list_view(search);
	search->first_data = palloc(sizeof(BlockNumber) *
								Max(index->leaf.max_data, index->inner.max_data));
	winnow_search_borrow(search);
	search->goal = wanted == WINNOW_WANTED_UNKNOWN ? FIRST_GOAL : wanted;
	search->next_look = WINNOW_FIRST_LOOK;
	if (!winnow_filter_never(filter))
	{
		start(search);
		search_to_goal(search);
	}
	return search;
}

/* What a search that knew where to stop would have read for the rows returned so far */
static void
count_needed(WinnowSearch *search, const Found *row)
{
	if (row->nprobed <= search->needed_probed)
		return;
	search->counters->lists_needed += row->nprobed - search->needed_probed;
	search->counters->rows_needed += row->ntested - search->needed_tested;
	search->needed_probed = row->nprobed;
	search->needed_tested = row->ntested;
}

/* A row that is returned, in case the search has to start again */
static void
remember(WinnowSearch *search, uint64 id)
{
	if ((Size) search->nreturned == search->returned_size)
	{
		search->returned_size = Max(64, search->returned_size * 2);
		search->returned = search->returned ?
			repalloc_huge(search->returned, sizeof(uint64) * search->returned_size) :
			palloc(sizeof(uint64) * search->returned_size);
	}
	search->returned[search->nreturned] = id;
}

/*
 * The next best row.  Returns false when every matching row has been returned.
 */
bool
winnow_search_next(WinnowSearch *search, ItemPointer tid)
{
	Found		best;
	int64		wanted;

	while (search->nreturned >= search->goal || search->results.count == 0)
	{
		if (winnow_queue_empty(&search->queue) && search->active.count == 0 &&
			search->pool.count == 0 && search->left.count == 0 && search->results.count == 0)
			return false;
		/* a cursor that was read in pieces may be read to its end now */
		winnow_node_of(search->scan, &wanted);
		if (wanted != WINNOW_WANTED_ALL && search->goal < WINNOW_WANTED_ALL / 2)
			wanted = search->goal * 2;
		else
			wanted = WINNOW_WANTED_ALL;
		set_goal(search, wanted);
		search_to_goal(search);
	}
	if (search->sorted)
	{
		best = search->results.items[--search->results.count];
		if (search->results.count >= ROWS_AHEAD)
			winnow_fetch_ahead(&search->results.items[search->results.count - ROWS_AHEAD].at);
	}
	else
		best = results_pop(&search->results);
	winnow_fetch_hold(search->scan->xs_heapfetch, best.id, &best.at);
	winnow_tid_unpack(best.id, tid);
	if (search->replaying)
		remember(search, winnow_tid_pack(tid));
	search->nreturned++;
	search->counters->returned++;
	count_needed(search, &best);
	search->restarts = 0;
	return true;
}
