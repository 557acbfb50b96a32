/*
 * stats.c
 *		What can be seen of an index and of a scan, from SQL.
 */
#include "postgres.h"

#include "search.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

WinnowScanCounters winnow_last_counters;

/* Names of the counters, in the order of WinnowScanCounters */
static const char *const counter_names[] = {
	"searches", "inner_nodes", "lists_pruned", "lists_probed", "rows_tested",
	"rows_passed", "codes_estimated", "reranked", "invisible", "rechecked_out",
	"rounds", "restarts", "returned"
};

StaticAssertDecl(lengthof(counter_names) * sizeof(uint64) == sizeof(WinnowScanCounters),
				 "every counter has a name");

/* winnow_simd(): the instruction set in use */
PG_FUNCTION_INFO_V1(winnow_simd);
Datum
winnow_simd(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(winnow_kernels->name));
}

/* winnow_last_scan(): counters of this session's last scan of a winnow index */
PG_FUNCTION_INFO_V1(winnow_last_scan);
Datum
winnow_last_scan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const uint64 *counters = (const uint64 *) &winnow_last_counters;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < (int) lengthof(counter_names); i++)
	{
		Datum		values[2] = {CStringGetTextDatum(counter_names[i]),
		Int64GetDatum((int64) counters[i])};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* What winnow_index_info counts */
typedef struct IndexInfoCounts
{
	int64		inner_nodes;
	int64		lists;
	int64		rows;
	int64		slots;			/* row slots of the lists' groups */
	int64		smallest;
	int64		largest;
	int64		pages;			/* reachable, without the meta page */
	int			levels;
} IndexInfoCounts;

/*
 * Returns false if a page is gone, as may happen on a standby (see
 * winnow_try_read_page).
 */
static bool
count_node(Relation rel, const WinnowIndex *index, BlockNumber node, int level,
		   XLogRecPtr asof, IndexInfoCounts *counts)
{
	WinnowView *view = winnow_view_alloc(index);
	int64		rows = 0;
	bool		whole = true;

	view->asof = asof;
	for (BlockNumber block = node; whole && BlockNumberIsValid(block); block = view->next)
	{
		whole = winnow_view_read(rel, index, block, level, view->asof, NULL, view);
		if (!whole)
			break;
		if (node == block)
			level = view->level;
		counts->levels = Max(counts->levels, level + 1);
		counts->pages += 1 + view->ndata;
		if (level == 0)
		{
			rows += view->nlive;
			counts->slots += winnow_group_capacity(&index->leaf, view->first);
		}
		else
		{
			/* the view is used below: keep what is needed */
			int			nchildren = view->nselected;
			uint64	   *children = palloc(sizeof(uint64) * Max(nchildren, 1));

			memcpy(children, view->ids, sizeof(uint64) * nchildren);
			for (int i = 0; whole && i < nchildren; i++)
				whole = count_node(rel, index, (BlockNumber) children[i], level - 1,
								   view->asof, counts);
			pfree(children);
		}
	}
	if (level == 0)
	{
		counts->smallest = counts->lists == 0 ? rows : Min(counts->smallest, rows);
		counts->largest = Max(counts->largest, rows);
		counts->lists++;
		counts->rows += rows;
	}
	else
		counts->inner_nodes++;
	winnow_view_free(view);
	return whole;
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

/* winnow_index_info(regclass) */
PG_FUNCTION_INFO_V1(winnow_index_info);
Datum
winnow_index_info(PG_FUNCTION_ARGS)
{
	Relation	rel = winnow_index_relation(PG_GETARG_OID(0), AccessShareLock);
	IndexInfoCounts counts;
	WinnowIndex *index;
	BlockNumber root;
	XLogRecPtr	asof;
	int			restarts = 0;
	TupleDesc	desc;
	Datum		values[14];
	bool		nulls[14] = {0};
	int			n = 0;

	if (pg_class_aclcheck(rel->rd_index->indrelid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_INDEX, RelationGetRelationName(rel));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	index = winnow_index_open(rel, CurrentMemoryContext);
	for (;;)
	{
		memset(&counts, 0, sizeof(counts));
		root = winnow_read_root(rel, &asof);
		if (count_node(rel, index, root, -1, asof, &counts))
			break;
		winnow_page_gone(rel, RecoveryInProgress(), &restarts);
	}

	values[n++] = Int32GetDatum(WINNOW_VERSION);
	values[n++] = CStringGetTextDatum(metric_name(index->metric));
	values[n++] = Int32GetDatum(index->dims);
	values[n++] = Int32GetDatum(index->schema.nattrs);
	values[n++] = Int32GetDatum(index->list_size);
	values[n++] = Int32GetDatum(counts.levels);
	values[n++] = Int64GetDatum(counts.inner_nodes);
	values[n++] = Int64GetDatum(counts.lists);
	values[n++] = Int64GetDatum(counts.rows);
	values[n++] = Int64GetDatum(counts.smallest);
	values[n++] = Int64GetDatum(counts.largest);
	values[n++] = Float8GetDatum(counts.slots > 0 ? (double) counts.rows / counts.slots : 0);
	values[n++] = Int64GetDatum((int64) RelationGetNumberOfBlocks(rel));
	values[n++] = Int64GetDatum((int64) RelationGetNumberOfBlocks(rel) - 1 - counts.pages);
	relation_close(rel, AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
