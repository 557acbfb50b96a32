/*
 * info.c
 *		winnow_index_info(): what can be said of an index from its own pages.
 *
 * The head pages of the tree are read once, and the other pages that the tree
 * has not: those are free, or were a replaced node's.  Nothing is locked for
 * longer than a node is copied, so that under writes the numbers belong to
 * slightly different moments.
 */
#include "postgres.h"

#include "calibrate.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

/* What is needed of a node while its children are walked */
typedef struct InfoLevel
{
	WinnowHeads heads;
	uint8	   *image;			/* of a row */
	uint8	   *below;			/* summary of the rows */
} InfoLevel;

typedef struct InfoWalk
{
	Relation	rel;
	const WinnowIndex *index;
	InfoLevel  *levels[WINNOW_MAX_LEVELS];
	BlockNumber nblocks;		/* of the index, when the walk began */
	uint64	   *seen;			/* bits of those that the tree has */

	int			height;
	int64		inner_nodes;
	int64		lists;
	int64		rows;
	int64		slots;			/* row slots of the lists' groups */
	int64		freed;			/* of them, such as a row has left */
	int64		smallest;
	int64		largest;
	int64		pages;			/* with the meta page */
	int64		summaries;		/* in the rows of inner nodes */
	int64		tight;			/* of them, no wider than they need be */
} InfoWalk;

static InfoLevel *
open_level(InfoWalk *walk, int level)
{
	if (walk->levels[level] == NULL)
	{
		InfoLevel  *state = palloc0(sizeof(InfoLevel));

		state->image = palloc(Max(winnow_layout(walk->index, level)->image_bytes, 1));
		state->below = palloc(Max(walk->index->schema.inner_bytes, 1));
		walk->levels[level] = state;
	}
	return walk->levels[level];
}

static bool walk_node(InfoWalk *walk, BlockNumber node, int level, XLogRecPtr asof);

/* A row of an inner node, and what is below it.  Returns false if a page is gone. */
static bool
walk_child(InfoWalk *walk, int level, BlockNumber child, XLogRecPtr asof)
{
	const WinnowSchema *schema = &walk->index->schema;
	InfoLevel  *state = walk->levels[level];
	const uint8 *summary = state->image + sizeof(WinnowChildStats);

	if (!walk_node(walk, child, level - 1, asof))
		return false;
	walk->summaries++;
	if (winnow_summary_covers_summary(schema, walk->levels[level - 1]->below, summary))
		walk->tight++;
	winnow_summary_add_summary(schema, state->below, summary);
	return true;
}

/* The rows of one group.  Returns their number, or -1 if a page is gone. */
static int
walk_group(InfoWalk *walk, int level, int g)
{
	const WinnowLayout *layout = winnow_layout(walk->index, level);
	InfoLevel  *state = walk->levels[level];
	Page		page = state->heads.pages[g].data;
	const WinnowGroup *group = WinnowPageGetGroup(page);
	int			nlive = 0;

	walk->pages += winnow_group_pages(layout, group);
	winnow_group_note(layout, state->heads.blocks[g], group, walk->seen, walk->nblocks);
	for (int slot = 0; slot < group->nrows; slot++)
	{
		if (!winnow_is_live(layout, state->heads.pages[0].data, page, slot))
			continue;
		nlive++;
		winnow_row_image(layout, page, slot, state->image);
		if (level == 0)
			winnow_summary_add_row(&walk->index->schema, state->below, state->image);
		else if (!walk_child(walk, level, (BlockNumber) winnow_row_id(layout, page, slot),
							 PageGetLSN(page)))
			return -1;
	}
	if (level == 0)
	{
		walk->slots += layout->capacity;
		walk->freed += group->nrows - nlive;
	}
	return nlive;
}

/*
 * A node and what is below it.  Returns false if a page is gone, as may happen
 * on a standby (see winnow_try_read_page).
 */
static bool
walk_node(InfoWalk *walk, BlockNumber node, int level, XLogRecPtr asof)
{
	InfoLevel  *state = open_level(walk, level);
	int64		rows = 0;

	winnow_summary_reset(&walk->index->schema, state->below);
	if (!winnow_heads_copy(walk->rel, walk->index, node, level, asof, InvalidBuffer,
						   &state->heads))
		return false;
	for (int g = 0; g < state->heads.ngroups; g++)
	{
		int			nlive = walk_group(walk, level, g);

		if (nlive < 0)
			return false;
		rows += nlive;
	}
	if (level > 0)
		walk->inner_nodes++;
	else
	{
		walk->smallest = walk->lists == 0 ? rows : Min(walk->smallest, rows);
		walk->largest = Max(walk->largest, rows);
		walk->lists++;
		walk->rows += rows;
	}
	return true;
}

/* The tree, from the root.  Returns false if a page is gone. */
static bool
walk_tree(InfoWalk *walk)
{
	XLogRecPtr	asof;
	BlockNumber root;
	Buffer		buffer;
	int			level;

	walk->pages = 1;
	walk->nblocks = RelationGetNumberOfBlocks(walk->rel);
	walk->seen = palloc_extended(sizeof(uint64) * (walk->nblocks / 64 + 1),
								 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	winnow_bit_set(walk->seen, WINNOW_META_BLOCK);
	root = winnow_read_root(walk->rel, &asof);
	buffer = winnow_try_read_head(walk->index, walk->rel, root, -1, asof, BUFFER_LOCK_SHARE);
	if (BufferIsInvalid(buffer))
		return false;
	level = WinnowPageGetGroup(BufferGetPage(buffer))->level;
	UnlockReleaseBuffer(buffer);
	walk->height = level + 1;
	return walk_node(walk, root, level, asof);
}

/* Of the pages that the tree does not have, those that are free */
static int64
count_free(const InfoWalk *walk)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	int64		count = 0;

	for (BlockNumber block = 0; block < walk->nblocks; block++)
	{
		Buffer		buffer;
		Page		page;

		if (winnow_bit_get(walk->seen, block))
			continue;
		CHECK_FOR_INTERRUPTS();
		buffer = ReadBufferExtended(walk->rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		count += PageIsNew(page) || winnow_page_kind(page) == WINNOW_PAGE_FREE;
		UnlockReleaseBuffer(buffer);
	}
	FreeAccessStrategy(strategy);
	return count;
}

/*
 * About how many lists CREATE INDEX would make of so many rows, and in *pages
 * how many pages.  Of nodes that have just been built the sizes are spread over
 * what there is between small and full (cluster.c), about evenly.
 */
static double
fresh_lists(const WinnowIndex *index, int64 rows, double *pages)
{
	double		below = rows;
	double		lists = 0;
	const int	nsizes = 32;

	*pages = 1;
	for (int level = 0; level == 0 || below > 1; level++)
	{
		int			size = winnow_layout(index, level)->size;
		double		smallest = size * (2 * WINNOW_NODE_FILL - 1);
		double		nodes = 1;
		double		node_pages = 0;

		if (below <= size)
			node_pages = winnow_node_pages(index, level, (int) below);
		else
		{
			nodes = ceil(below / (size * WINNOW_NODE_FILL));
			for (int i = 0; i < nsizes; i++)
				node_pages += winnow_node_pages(index, level,
												(int) (smallest + (size - smallest) *
																	  (i + 0.5) / nsizes)) /
							  (double) nsizes;
		}
		*pages += nodes * node_pages;
		if (level == 0)
			lists = nodes;
		below = nodes;
	}
	return lists;
}

static const char *
metric_name(WinnowMetric metric)
{
	switch (metric)
	{
		case WINNOW_METRIC_L2:
			return "l2";
		case WINNOW_METRIC_IP:
			return "inner product";
		case WINNOW_METRIC_COSINE:
			return "cosine";
	}
	return NULL;
}

#define INFO_COLUMNS 22

/* The columns, in the order of the function's OUT parameters */
static HeapTuple
form_info(const InfoWalk *walk, TupleDesc desc)
{
	const WinnowIndex *index = walk->index;
	Datum		values[INFO_COLUMNS];
	bool		nulls[INFO_COLUMNS] = {0};
	int			n = 0;
	double		fresh_pages;
	double		fresh = fresh_lists(index, walk->rows, &fresh_pages);

	values[n++] = Int32GetDatum(WINNOW_VERSION);
	values[n++] = CStringGetTextDatum(metric_name(index->metric));
	values[n++] = Int32GetDatum(index->dims);
	values[n++] = Int32GetDatum(index->schema.nattrs);
	values[n++] = Int32GetDatum(index->list_size);
	values[n++] = Int32GetDatum(index->bits);
	values[n++] = Int32GetDatum(walk->height);
	values[n++] = Int64GetDatum(walk->inner_nodes);
	values[n++] = Int64GetDatum(walk->lists);
	values[n++] = Int64GetDatum(walk->rows);
	values[n++] = Int64GetDatum(walk->smallest);
	values[n++] = Int64GetDatum(walk->largest);
	values[n++] = Float8GetDatum(walk->slots > 0 ? (double) walk->rows / walk->slots : 0);
	values[n++] = Int64GetDatum(walk->freed);
	values[n++] = Float8GetDatum(walk->summaries > 0 ? (double) walk->tight / walk->summaries : 1);
	values[n++] = Int64GetDatum(walk->nblocks);
	values[n++] = Int64GetDatum(walk->nblocks - walk->pages);
	values[n++] = Int64GetDatum(count_free(walk));
	values[n++] = Int64GetDatum((int64) fresh);
	values[n++] = Int64GetDatum((int64) fresh_pages);
	values[n++] = Float4GetDatum(index->effective_dim);
	values[n++] = Float8GetDatum(winnow_tolerance(index->tolerance[WINNOW_FOR_10], winnow_recall));
	Assert(n == INFO_COLUMNS && desc->natts == INFO_COLUMNS);
	return heap_form_tuple(BlessTupleDesc(desc), values, nulls);
}

/* winnow_index_info(regclass) */
PG_FUNCTION_INFO_V1(winnow_index_info);
Datum
winnow_index_info(PG_FUNCTION_ARGS)
{
	Relation	rel = winnow_index_relation(PG_GETARG_OID(0), AccessShareLock);
	bool		replaying = RecoveryInProgress();
	int			restarts = 0;
	WinnowIndex *index;
	InfoWalk	walk;
	TupleDesc	desc;
	HeapTuple	result;

	if (pg_class_aclcheck(rel->rd_index->indrelid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_INDEX, RelationGetRelationName(rel));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	index = winnow_index_open(rel, CurrentMemoryContext);
	for (;;)
	{
		memset(&walk, 0, sizeof(walk));
		walk.rel = rel;
		walk.index = index;
		if (walk_tree(&walk))
			break;
		winnow_page_gone(rel, replaying, &restarts);
	}
	result = form_info(&walk, desc);
	relation_close(rel, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(result));
}
