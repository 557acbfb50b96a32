/*
 * node.c
 *		Nodes: written from rows in memory, read one row group at a time.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

#include "core/mean.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"

/* Room for a node's description, with its centroid and its parent's row */
WinnowNode *
winnow_node_alloc(const WinnowIndex *index)
{
	WinnowNode *node = palloc0(sizeof(WinnowNode));

	node->centroid = palloc0(sizeof(float) * index->dims);
	node->image = palloc0(index->inner.image_bytes);
	return node;
}

/*
 * The mean squared distance of rows below a node to its centroid: child (or row) i stands
 * for weights[i] rows at a mean squared distance of below[i] to its own centroid, which is squared[i]
 * away.  Those beyond "far" are outliers and left out: they would make all rows look as if they were
 * far away.  Not for inner products, as long vectors are what is looked for then.
 */
float
winnow_mean_radius2(const WinnowIndex *index, int n, const double *squared, const double *weights,
					const double *below, double far)
{
	double		weight = 0;
	double		sum = 0;

	for (int i = 0; i < n; i++)
		if (squared[i] <= far || index->metric == WINNOW_METRIC_IP)
		{
			weight += weights[i];
			sum += weights[i] * (below[i] + squared[i]);
		}
	return weight > 0 ? winnow_to_float(sum / weight) : 0;
}

/*
 * Let what a parent says of a node hold for one of its rows too: the number of rows below, summary and imprint, these
 * in the node's image.  Returns what is known of the rows below that one.
 */
WinnowChildStats
winnow_describe_row(const WinnowIndex *index, int level, const uint8 *row, WinnowChildStats *stats,
					uint8 *image)
{
	uint8	   *summary = image + sizeof(WinnowChildStats);
	WinnowChildStats below = {.rows = 1};

	if (level == 0)
	{
		winnow_summary_add_row(&index->schema, summary, row);
		winnow_imprint_add_row(&index->schema, image + index->inner.imprint_offset, row);
	}
	else
	{
		memcpy(&below, row, sizeof(below));
		winnow_summary_add_summary(&index->schema, summary, row + sizeof(below));
	}
	winnow_add_rows(stats, below.rows);
	return below;
}

/*
 * The centroid of a node, and what the parent will say of it: rows below, their mean
 * squared distance to the centroid, summary.
 */
static void
describe_node(const WinnowIndex *index, int level, const WinnowRows *rows,
			  WinnowNode *node)
{
	const WinnowLayout *layout = winnow_layout(index, level);
	int			nknown = rows->nknown;
	WinnowChildStats stats = {0};
	double	   *squared = palloc_extended(sizeof(double) * (6 * (Size) nknown + index->dims), MCXT_ALLOC_HUGE);
	double	   *weights = squared + nknown;
	double	   *below = weights + nknown;
	double	   *farthest = below + nknown;
	double		far = INFINITY;

	winnow_summary_reset(&index->schema, node->image + sizeof(stats));
	winnow_imprint_reset(&index->schema, node->image + index->inner.imprint_offset, level);
	for (int i = 0; i < rows->count; i++)
	{
		WinnowChildStats child = winnow_describe_row(index, level, rows->images + (Size) i * layout->image_bytes,
													 &stats, node->image);

		if (i >= nknown)
			continue;
		weights[i] = Max(child.rows, 1);
		below[i] = child.radius2;
		farthest[i] = child.farthest2;
	}
	memset(node->centroid, 0, sizeof(float) * index->dims);
	if (nknown > 0)
		far = winnow_mean(rows->vectors, weights, below, nknown, index->dims, node->centroid, squared,
						  farthest + nknown);
	stats.radius2 = winnow_mean_radius2(index, nknown, squared, weights, below, far);
	for (int i = 0; i < nknown; i++)
		winnow_stats_reach(index, &stats, squared[i] + farthest[i]);
	memcpy(node->image, &stats, sizeof(stats));
	pfree(squared);
}

/*
 * The code of a row; of one whose vector is not known, the code that says so
 * (see winnow_encode): its bounds never rule it out.
 */
static void
write_code(const WinnowIndex *index, const float *vector, const float *centroid, uint8 *code)
{
	const float unknown[2] = {INFINITY, 1};

	if (vector != NULL)
		winnow_encode(vector, centroid, index->dims, code);
	else
	{
		memset(code, 0, index->code_bytes);
		memcpy(code, unknown, sizeof(unknown));
	}
}

/* The data pages of a node: the centroid, then codes */
static void
write_data_pages(const WinnowNodeWriter *writer, const BlockNumber *blocks, int nblocks)
{
	const WinnowIndex *index = writer->index;
	const WinnowRows *rows = writer->rows;
	const WinnowLayout *layout = winnow_layout(index, writer->level);
	PGAlignedBlock image;
	Size		centroid_left = sizeof(float) * index->dims;
	const char *centroid_from = (const char *) writer->centroid;
	int			row = 0;

	for (int p = 0; p < nblocks; p++)
	{
		Size		part = Min(centroid_left, WINNOW_PAGE_USABLE);

		winnow_page_init(image.data, WINNOW_PAGE_DATA, writer->born);
		if (part > 0)
		{
			memcpy(PageGetContents(image.data), centroid_from, part);
			winnow_data_set_end(image.data, part);
			centroid_from += part;
			centroid_left -= part;
		}
		while (row < rows->count)
		{
			int			page;
			int			offset;

			/* as if all rows were the first group's */
			winnow_code_place(layout, 0, row, &page, &offset);
			if (page != p)
				break;
			write_code(index,
					   row < rows->nknown ? rows->vectors + (Size) row * index->dims : NULL,
					   writer->centroid, (uint8 *) PageGetContents(image.data) + offset);
			winnow_data_set_end(image.data, offset + index->code_bytes);
			row++;
		}
		winnow_page_write(writer->rel, writer->fork, blocks[p], image.data, writer->logged);
	}
	Assert(row == rows->count);
}

/* The head pages of a node */
static void
write_head_pages(const WinnowNodeWriter *writer, const BlockNumber *heads, int ngroups,
				 const BlockNumber *data, const BlockNumber *records)
{
	const WinnowRows *rows = writer->rows;
	const WinnowLayout *layout = winnow_layout(writer->index, writer->level);
	PGAlignedBlock image;

	for (int g = 0; g < ngroups; g++)
	{
		int			start = g * layout->capacity;
		int			nrows = Min(rows->count - start, layout->capacity);
		WinnowGroup *group;

		winnow_head_init(image.data, writer->born, writer->level, g, heads[0]);
		group = WinnowPageGetGroup(image.data);
		group->next = g + 1 < ngroups ? heads[g + 1] : InvalidBlockNumber;
		group->ndata = winnow_data_pages(layout, g, nrows);
		if (winnow_data_shared(layout, g))
			data--;
		memcpy(group->data, data, sizeof(BlockNumber) * group->ndata);
		data += group->ndata;
		group->nrecord_pages = winnow_record_page_count(layout, nrows);
		memcpy(winnow_record_blocks(layout, group), records,
			   sizeof(BlockNumber) * group->nrecord_pages);
		records += group->nrecord_pages;
		for (int i = 0; i < nrows; i++)
			winnow_row_store(layout, image.data, i, rows->ids[start + i],
							 rows->images + (Size) (start + i) * layout->image_bytes);
		winnow_page_write(writer->rel, writer->fork, heads[g], image.data, writer->logged);
	}
}

/* The pages with the records of a node, group by group */
static void
write_record_pages(const WinnowNodeWriter *writer, const BlockNumber *blocks)
{
	const WinnowLayout *layout = winnow_layout(writer->index, writer->level);

	if (layout->record_bytes == 0)
		return;
	for (int start = 0; start < writer->rows->count; start += layout->capacity)
	{
		int			nrows = Min(writer->rows->count - start, layout->capacity);

		winnow_records_write(writer, start, nrows, blocks);
		blocks += winnow_record_page_count(layout, nrows);
	}
}

static int
count_groups(const WinnowLayout *layout, int nrows)
{
	return Max(1, (nrows + layout->capacity - 1) / layout->capacity);
}

/* Pages of a node of so many rows that searches read as a whole: head and data pages */
int
winnow_scanned_pages(const WinnowIndex *index, int level, int nrows)
{
	const WinnowLayout *layout = winnow_layout(index, level);

	return count_groups(layout, nrows) + winnow_data_pages(layout, 0, nrows);
}

/* Pages that a node of so many rows takes */
int
winnow_node_pages(const WinnowIndex *index, int level, int nrows)
{
	const WinnowLayout *layout = winnow_layout(index, level);
	int			full = nrows / layout->capacity;

	return winnow_scanned_pages(index, level, nrows) +
		full * winnow_record_page_count(layout, layout->capacity) +
		winnow_record_page_count(layout, nrows - full * layout->capacity);
}

/*
 * Write a node of the given rows to new pages, and describe it.  Nothing
 * points to it yet.  The centroid is the mean of the rows but outliers.  If the pages are
 * logged the structure lock is held, which keeps the blocks ours until they
 * are written.
 */
void
winnow_node_write(Relation rel, ForkNumber fork, const WinnowIndex *index, int level,
				  const WinnowRows *rows, bool logged, WinnowNode *node)
{
	int			ngroups = count_groups(winnow_layout(index, level), rows->count);
	int			npages = winnow_node_pages(index, level, rows->count);
	int			nscanned = winnow_scanned_pages(index, level, rows->count);
	BlockNumber *blocks = palloc(sizeof(BlockNumber) * npages);
	WinnowNodeWriter writer = {rel, fork, index, level, rows, node->centroid, InvalidXLogRecPtr, logged};

	describe_node(index, level, rows, node);

	/* all blocks first: pages name one another; head pages are read before the others */
	for (int p = 0; p < npages; p++)
	{
		Buffer		buffer = logged ? winnow_allocate(rel) : winnow_extend_relation(rel, fork);

		blocks[p] = BufferGetBlockNumber(buffer);
		UnlockReleaseBuffer(buffer);
	}
	node->block = blocks[0];
	if (logged)
		writer.born = winnow_birth(rel);
	CHECK_FOR_INTERRUPTS();
	write_head_pages(&writer, blocks, ngroups, blocks + ngroups, blocks + nscanned);
	CHECK_FOR_INTERRUPTS();
	write_data_pages(&writer, blocks + ngroups, nscanned - ngroups);
	CHECK_FOR_INTERRUPTS();
	write_record_pages(&writer, blocks + nscanned);
	pfree(blocks);
}

/*
 * Read a node's centroid, given the data pages of its first group.  Returns
 * false if one of them is gone (see winnow_try_read_page).
 */
bool
winnow_centroid_read(Relation rel, const WinnowIndex *index, const BlockNumber *data,
					 int ndata, XLogRecPtr asof, float *centroid)
{
	Size		left = sizeof(float) * index->dims;
	char	   *to = (char *) centroid;

	for (int p = 0; left > 0; p++)
	{
		Size		part = Min(left, WINNOW_PAGE_USABLE);
		Buffer		buffer;

		if (p >= ndata)
			winnow_corrupted(rel, InvalidBlockNumber, "A node has no centroid.");
		buffer = winnow_try_read_page(rel, data[p], WINNOW_PAGE_DATA, asof,
									  BUFFER_LOCK_SHARE);
		if (BufferIsInvalid(buffer))
			return false;
		memcpy(to, PageGetContents(BufferGetPage(buffer)), part);
		UnlockReleaseBuffer(buffer);
		to += part;
		left -= part;
	}
	return true;
}

/*
 * The centroid of a node that cannot be out of date.  If born is not NULL, also
 * when the node was made (see WinnowPageOpaque).
 */
void
winnow_node_centroid(Relation rel, const WinnowIndex *index, BlockNumber node, int level,
					 float *centroid, XLogRecPtr *born)
{
	Buffer		first = winnow_read_head(index, rel, node, level, BUFFER_LOCK_SHARE);
	Page		page = BufferGetPage(first);
	WinnowGroup *group = WinnowPageGetGroup(page);

	winnow_centroid_read(rel, index, group->data, group->ndata, InvalidXLogRecPtr, centroid);
	if (born != NULL)
		*born = WinnowPageGetOpaque(page)->born;
	UnlockReleaseBuffer(first);
}

/*
 * Copy the head pages of a node, with the first one locked throughout, so that
 * the children of an inner node are those of one moment; "locked" is that page
 * if the caller has it locked already.  level may be -1 if it is not known, and
 * asof is when the node was named, or 0 (see winnow_view_read).  Returns false if
 * a page is gone.
 */
bool
winnow_heads_copy(Relation rel, const WinnowIndex *index, BlockNumber node, int level,
				  XLogRecPtr asof, Buffer locked, WinnowHeads *heads)
{
	BlockNumber block = node;
	Buffer		first = locked;
	WinnowChain chain;

	winnow_chain_start(&chain, node);
	heads->ngroups = 0;
	do
	{
		Buffer		buffer = block == node && BufferIsValid(locked) ?
			locked :
			winnow_try_read_head(index, rel, block, level, asof, BUFFER_LOCK_SHARE);
		Page		page;

		if (BufferIsInvalid(buffer))
			break;
		page = BufferGetPage(buffer);
		winnow_chain_follow(rel, &chain, block, page);
		level = WinnowPageGetGroup(page)->level;
		if (asof != InvalidXLogRecPtr)
			asof = winnow_page_asof(page);
		if (heads->ngroups == heads->allocated)
		{
			bool		none = heads->allocated == 0;

			heads->allocated = none ? 4 : 2 * heads->allocated;
			heads->blocks = none ? palloc(sizeof(BlockNumber) * heads->allocated) :
				repalloc(heads->blocks, sizeof(BlockNumber) * heads->allocated);
			heads->pages = none ? palloc(sizeof(PGAlignedBlock) * heads->allocated) :
				repalloc_huge(heads->pages, sizeof(PGAlignedBlock) * heads->allocated);
		}
		heads->blocks[heads->ngroups] = block;
		memcpy(heads->pages[heads->ngroups++].data, page, BLCKSZ);
		block = WinnowPageGetGroup(page)->next;
		if (BufferIsInvalid(first))
			first = buffer;
		else if (buffer != first)
			UnlockReleaseBuffer(buffer);
	} while (BlockNumberIsValid(block));
	if (BufferIsValid(first) && first != locked)
		UnlockReleaseBuffer(first);
	return !BlockNumberIsValid(block);
}

/* Pages of a node that has been copied */
int
winnow_heads_pages(const WinnowIndex *index, const WinnowHeads *heads)
{
	int			npages = 0;

	for (int g = 0; g < heads->ngroups; g++)
	{
		const WinnowGroup *group = WinnowPageGetGroup(heads->pages[g].data);

		npages += winnow_group_pages(winnow_layout(index, group->level), group);
	}
	return npages;
}

WinnowView *
winnow_view_alloc(const WinnowIndex *index)
{
	WinnowView *view = palloc0(sizeof(WinnowView));
	int			capacity = Max(index->leaf.capacity, index->inner.capacity);

	view->data = palloc(sizeof(BlockNumber) *
						Max(index->leaf.max_data, index->inner.max_data));
	view->records = palloc(sizeof(BlockNumber) * Max(Max(index->leaf.max_record_pages,
														 index->inner.max_record_pages),
													 1));
	view->map = palloc(sizeof(uint64) * Max(winnow_map_words(&index->leaf),
											winnow_map_words(&index->inner)));
	view->selected = palloc(sizeof(uint16) * capacity);
	view->ids = palloc(sizeof(uint64) * capacity);
	view->stats = palloc(sizeof(WinnowChildStats) * capacity);
	return view;
}

void
winnow_view_free(WinnowView *view)
{
	pfree(view->data);
	pfree(view->records);
	pfree(view->map);
	pfree(view->selected);
	pfree(view->ids);
	pfree(view->stats);
	pfree(view);
}

/* Among the bits of nblocks blocks, set those of the view's pages */
void
winnow_view_note(const WinnowView *view, uint64 *seen, BlockNumber nblocks)
{
	winnow_note_blocks(&view->block, 1, seen, nblocks);
	winnow_note_blocks(view->data, view->ndata, seen, nblocks);
	winnow_note_blocks(view->records, view->nrecord_pages, seen, nblocks);
}

/* Copy the TIDs of the selected rows, and of those in doubt */
static void
view_rows(const WinnowLayout *layout, Page page, WinnowView *view)
{
	const ItemPointerData *tids = (ItemPointer) ((char *) page + layout->id_offset);

	StaticAssertStmt(sizeof(ItemPointerData) == 6, "TIDs must be packed");
	for (int i = 0; i < view->nselected + view->ndoubtful; i++)
		view->ids[i] = winnow_tid_pack(&tids[view->selected[i]]);
}

/* Copy the blocks of the selected children, and what is known of them */
static void
view_children(const WinnowLayout *layout, Page page, WinnowView *view)
{
	const BlockNumber *blocks = (BlockNumber *) ((char *) page + layout->id_offset);
	const uint32 *rows = (uint32 *) ((char *) page + layout->page_offset[0]);
	const float *radius2 = (float *) ((char *) page + layout->page_offset[1]);
	const float *farthest2 = (float *) ((char *) page + layout->page_offset[2]);

	for (int i = 0; i < view->nselected; i++)
	{
		int			slot = view->selected[i];

		view->ids[i] = blocks[slot];
		view->stats[i].rows = rows[slot];
		view->stats[i].radius2 = radius2[slot];
		view->stats[i].farthest2 = farthest2[slot];
	}
}

/* The slots whose bits are set; returns their number */
static int
select_rows(const uint64 *mask, int nwords, uint16 *selected)
{
	int			n = 0;

	for (int w = 0; w < nwords; w++)
	{
		if (mask[w] == ~UINT64CONST(0))
			for (int i = 0; i < 64; i++)
				selected[n++] = w * 64 + i;
		else
			for (uint64 bits = mask[w]; bits != 0; bits &= bits - 1)
				selected[n++] = w * 64 + pg_rightmost_one_pos64(bits);
	}
	return n;
}

/* Is one of the bits from first to before end set? */
static bool
has_bit(const uint64 *mask, int first, int end)
{
	while (first < end && !winnow_bit_get(mask, first))
		first++;
	return first < end;
}

/*
 * Clear the bits of lists whose imprints say that no row passes the filter.  Returns false
 * if a page is gone.
 */
static bool
test_imprints(Relation rel, const WinnowLayout *layout, const WinnowFilter *filter,
			  const WinnowColumns *columns, WinnowView *view, uint64 *mask)
{
	int			per_page = layout->records_per_page;

	if (view->nrecord_pages < winnow_record_page_count(layout, view->nrows))
		winnow_corrupted(rel, view->block, "A row has no record.");
	for (int p = 0; p < view->nrecord_pages; p++)
	{
		int			end = Min((p + 1) * per_page, view->nrows);
		Buffer		buffer;
		const uint8 *imprints;

		if (!has_bit(mask, p * per_page, end))
			continue;
		buffer = winnow_try_read_page(rel, view->records[p], WINNOW_PAGE_DATA, view->asof, BUFFER_LOCK_SHARE);
		if (BufferIsInvalid(buffer))
			return false;
		imprints = (const uint8 *) PageGetContents(BufferGetPage(buffer));
		for (int slot = p * per_page; slot < end; slot++)
			if (winnow_bit_get(mask, slot))
				winnow_filter_imprint_ahead(filter, imprints + slot % per_page * layout->record_bytes);
		if (p + 1 < view->nrecord_pages)
			winnow_prefetch(rel, view->records[p + 1], 0, 0);
		for (int slot = p * per_page; slot < end; slot++)
		{
			if (!winnow_bit_get(mask, slot))
				continue;
			view->nasked++;
			if (winnow_filter_imprint(filter, columns, slot,
									  imprints + slot % per_page * layout->record_bytes))
				continue;
			view->nruled_out++;
			winnow_bit_clear(mask, slot);
		}
		UnlockReleaseBuffer(buffer);
	}
	return true;
}

/* Clear the bits of children that cannot have a row that passes.  Returns false if a page is gone. */
static bool
test_children(Relation rel, const WinnowLayout *layout, const WinnowFilter *filter,
			  const WinnowColumns *columns, WinnowView *view, uint64 *mask)
{
	winnow_filter_children(filter, columns, mask);
	return view->level != 1 || !view->asks_imprints ||
		test_imprints(rel, layout, filter, columns, view, mask);
}

/* What the header of a head page says, and the removed bits of its node's first groups, if it is the first */
static void
view_header(Relation rel, const WinnowLayout *layout, BlockNumber block, XLogRecPtr asof, Page page,
			WinnowView *view)
{
	const WinnowGroup *group = WinnowPageGetGroup(page);

	if (block != view->next)
		winnow_chain_start(&view->chain, block);
	winnow_chain_follow(rel, &view->chain, block, page);
	view->block = block;
	view->level = group->level;
	view->number = group->number;
	view->born = WinnowPageGetOpaque(page)->born;
	view->asof = asof == InvalidXLogRecPtr ? InvalidXLogRecPtr : winnow_page_asof(page);
	view->next = group->next;
	view->nrows = group->nrows;
	view->ndata = group->ndata;
	memcpy(view->data, group->data, sizeof(BlockNumber) * group->ndata);
	view->nrecord_pages = group->nrecord_pages;
	memcpy(view->records, winnow_record_blocks(layout, group),
		   sizeof(BlockNumber) * group->nrecord_pages);

	if (group->number == 0)
	{
		memcpy(view->map, winnow_removed_map(layout, page),
			   sizeof(uint64) * winnow_map_words(layout));
		view->chain.removed = view->map;
	}
}

/*
 * Read one head page: which of its live rows pass the filter (NULL: all), and
 * what is needed to go on from there.  TIDs, if they are read (view->without_ids), and
 * columns are read under one lock, so that they belong together.  The page is the first of a node, or the
 * one that the view names as next.
 *
 * asof is when the page was named (see winnow_try_read_page); with 0 neither
 * this page nor those that it names are expected to go.  Returns false if it is
 * gone.
 */
bool
winnow_view_read(Relation rel, const WinnowIndex *index, BlockNumber block, int level,
				 XLogRecPtr asof, const WinnowFilter *filter, WinnowView *view)
{
	Buffer		buffer = winnow_try_read_head(index, rel, block, level, asof,
											  BUFFER_LOCK_SHARE);
	Page		page;
	WinnowGroup *group;
	const WinnowLayout *layout;
	const uint64 *removed;
	int			nwords;
	uint64		mask[WINNOW_MASK_MAX];
	uint64		doubtful[WINNOW_MASK_MAX];
	bool		in_doubt = false;

	if (BufferIsInvalid(buffer))
		return false;
	page = BufferGetPage(buffer);
	group = WinnowPageGetGroup(page);
	layout = winnow_layout(index, group->level);
	nwords = WINNOW_MASK_WORDS(group->nrows);
	view_header(rel, layout, block, asof, page, view);
	removed = winnow_is_mapped(layout, group) ?
		view->chain.removed + group->number * layout->group_words :
		winnow_removed_map(layout, page);
	view->nlive = 0;
	for (int w = 0; w < nwords; w++)
	{
		mask[w] = ~removed[w];
		if (w == nwords - 1 && group->nrows % 64 != 0)
			mask[w] &= (UINT64CONST(1) << (group->nrows % 64)) - 1;
		view->nlive += pg_popcount64(mask[w]);
	}
	if (filter != NULL)
	{
		WinnowColumns columns = {page, layout->page_offset + layout->schema_column, group->nrows};

		if (group->level == 0)
			winnow_filter_rows(filter, &columns, mask);
		else if (!test_children(rel, layout, filter, &columns, view, mask))
		{
			UnlockReleaseBuffer(buffer);
			return false;
		}
		if (view->sets_apart && group->level == 0)
			in_doubt = winnow_filter_doubtful(filter, &columns, mask, doubtful);
		for (int w = 0; w < nwords && in_doubt; w++)
			mask[w] &= ~doubtful[w];
	}

	view->nselected = select_rows(mask, nwords, view->selected);
	view->ndoubtful = in_doubt ?
						  select_rows(doubtful, nwords, view->selected + view->nselected) :
						  0;
	if (group->level > 0)
		view_children(layout, page, view);
	else if (!view->without_ids)
		view_rows(layout, page, view);
	if (view->hold_first && view->number == 0)
		view->held = buffer;
	else
		UnlockReleaseBuffer(buffer);
	return true;
}

/*
 * Get the ids of n of a list view's selected rows, by their places among these.  The slot may
 * have got another row since: then nobody sees the one that was there, nor a snapshot as old as the
 * view the new one.  Returns false if the page is gone.
 */
bool
winnow_view_name(Relation rel, const WinnowIndex *index, WinnowView *view, const uint16 *which,
				 int n)
{
	Buffer		buffer = winnow_try_read_head(index, rel, view->block, 0, view->asof,
											  BUFFER_LOCK_SHARE);
	Page		page;
	const ItemPointerData *tids;

	if (BufferIsInvalid(buffer))
		return false;
	page = BufferGetPage(buffer);
	if (WinnowPageGetGroup(page)->nrows < view->nrows)
		winnow_corrupted(rel, view->block, "It has lost rows.");
	tids = (ItemPointer) ((char *) page + index->leaf.id_offset);
	for (int i = 0; i < n; i++)
		view->ids[which[i]] = winnow_tid_pack(&tids[view->selected[which[i]]]);
	UnlockReleaseBuffer(buffer);
	return true;
}

/*
 * Estimate the scores of a view's selected rows, and lower bounds of them; if
 * error is not NULL, also how far off the estimates are, and (in norm) their distances to the node's
 * centroid, as encoded.
 * The query must have been prepared for the node's centroid.  Only data pages
 * that hold a selected row's code are read.  Returns false if one of them is gone.
 */
bool
winnow_view_estimate(Relation rel, const WinnowIndex *index, const WinnowView *view,
					 const WinnowQueryCode *query, float epsilon,
					 float *estimate, float *lower, float *error, float *norm)
{
	const WinnowLayout *layout = winnow_layout(index, view->level);
	uint16		rows[WINNOW_MAX_LIST_SIZE];
	int			i = 0;

	while (i < view->nselected)
	{
		int			slot = view->selected[i];
		int			last = winnow_code_last(layout, view->number, slot);
		int			page;
		int			base;
		int			n = 0;
		const uint8 *codes;
		Buffer		buffer;

		/* the run of selected rows whose codes are on the same page */
		winnow_code_place(layout, view->number, slot, &page, &base);
		for (; i + n < view->nselected && view->selected[i + n] <= last; n++)
			rows[n] = view->selected[i + n] - slot;
		if (page >= view->ndata)
			winnow_corrupted(rel, view->block, "A row has no code.");
		buffer = winnow_try_read_page(rel, view->data[page], WINNOW_PAGE_DATA, view->asof,
									  BUFFER_LOCK_SHARE);
		if (BufferIsInvalid(buffer))
			return false;
		codes = (const uint8 *) PageGetContents(BufferGetPage(buffer)) + base;
		winnow_estimate(query, codes, index->code_bytes, rows, n, epsilon,
						estimate + i, lower + i);
		if (error != NULL)
			winnow_estimate_errors(query, codes, index->code_bytes, rows, n, error + i, norm + i);
		UnlockReleaseBuffer(buffer);
		i += n;
	}
	return true;
}

/*
 * The squared distances of a head page's rows to the node's centroid, as
 * encoded; infinite where the vector is not known.  The page cannot be out of
 * date.
 */
void
winnow_group_norms(Relation rel, const WinnowIndex *index, Page page, float *norm2)
{
	const WinnowGroup *group = WinnowPageGetGroup(page);
	const WinnowLayout *layout = winnow_layout(index, group->level);
	int			slot = 0;

	while (slot < group->nrows)
	{
		int			last = Min(winnow_code_last(layout, group->number, slot), group->nrows - 1);
		int			data;
		int			base;
		Buffer		buffer;
		const char *code;

		winnow_code_place(layout, group->number, slot, &data, &base);
		if (data >= group->ndata)
			winnow_corrupted(rel, InvalidBlockNumber, "A row has no code.");
		buffer = winnow_read_page(rel, group->data[data], WINNOW_PAGE_DATA, BUFFER_LOCK_SHARE);
		code = PageGetContents(BufferGetPage(buffer)) + base;
		for (; slot <= last; slot++, code += index->code_bytes)
		{
			float		norm;

			memcpy(&norm, code, sizeof(norm));
			norm2[slot] = norm * norm;
		}
		UnlockReleaseBuffer(buffer);
	}
}
