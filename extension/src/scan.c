/*
 * scan.c
 *		The executor's side of a scan.
 */
#include "postgres.h"

#include "search.h"

#include "access/amapi.h"
#include "access/relscan.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct WinnowScan
{
	WinnowIndex *index;
	WinnowFetch *fetch;			/* begun with the first row asked for */
	WinnowFilter *filter;
	WinnowSearch *search;
	MemoryContext context;		/* of the filter and the search */
	WinnowScanCounters counters;
} WinnowScan;

/* ambeginscan */
IndexScanDesc
winnow_beginscan(Relation rel, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(rel, nkeys, norderbys);
	WinnowScan *state = palloc0(sizeof(WinnowScan));

	state->index = winnow_index_open(rel, CurrentMemoryContext);
	state->context = AllocSetContextCreate(CurrentMemoryContext, "winnow search",
										   ALLOCSET_DEFAULT_SIZES);
	scan->opaque = state;
	return scan;
}

/* amrescan */
void
winnow_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	WinnowScan *state = scan->opaque;

	if (keys && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
	if (orderbys && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, scan->numberOfOrderBys * sizeof(ScanKeyData));
	MemoryContextReset(state->context);
	state->filter = NULL;
	state->search = NULL;
}

/* Compile the keys and do the first round of the search */
static void
start_search(IndexScanDesc scan)
{
	WinnowScan *state = scan->opaque;
	Relation	rel = scan->indexRelation;
	MemoryContext context = GetMemoryChunkContext(state);
	IndexScanState *node;
	int64		wanted;
	Bitmapset  *wanted_columns;
	MemoryContext old;

	if (!IsMVCCSnapshot(scan->xs_snapshot))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("winnow indexes can only be scanned with an MVCC snapshot")));
	pgstat_count_index_scan(rel);
	WINNOW_COUNT_SEARCH(scan);
	state->counters.searches++;

	state->filter = winnow_filter_compile(&state->index->schema, scan->keyData,
										  scan->numberOfKeys, state->context);
	node = winnow_node_of(scan, &wanted);
	if (node != NULL)
		winnow_filter_narrow(state->filter, rel, node, state->context);
	old = MemoryContextSwitchTo(context);
	wanted_columns = bms_add_member(winnow_filter_rechecked(state->filter),
									state->index->schema.vector_attno);
	if (state->fetch != NULL && !bms_is_subset(wanted_columns, winnow_fetch_wanted(state->fetch)))
	{
		/* what has been needed once may be again, so there is an end to this */
		wanted_columns = bms_add_members(wanted_columns, winnow_fetch_wanted(state->fetch));
		winnow_fetch_end(state->fetch);
		state->fetch = NULL;
	}
	if (state->fetch == NULL)
		state->fetch = winnow_fetch_begin(scan->heapRelation, rel, wanted_columns);
	else
		bms_free(wanted_columns);
	MemoryContextSwitchTo(old);
	state->search = winnow_search_begin(scan, state->index, state->filter, state->fetch,
										winnow_recall, node, wanted, &state->counters);
}

/* amgettuple */
bool
winnow_gettuple(IndexScanDesc scan, ScanDirection direction)
{
	WinnowScan *state = scan->opaque;
	MemoryContext old = MemoryContextSwitchTo(state->context);
	bool		found;

	Assert(ScanDirectionIsForward(direction));
	if (state->search == NULL)
		start_search(scan);
	found = winnow_search_next(state->search, &scan->xs_heaptid);
	winnow_last_counters = state->counters;
	scan->xs_recheck = false;
	scan->xs_recheckorderby = false;
	MemoryContextSwitchTo(old);
	return found;
}

/* What the scan has done so far; NULL if it is not one of a winnow index */
const WinnowScanCounters *
winnow_scan_counters(IndexScanDesc scan)
{
	if (scan->indexRelation->rd_indam->amgettuple != winnow_gettuple)
		return NULL;
	return &((WinnowScan *) scan->opaque)->counters;
}

/* The executor's conditions that the scan's last search has tested too */
List *
winnow_scan_conditions(IndexScanDesc scan)
{
	WinnowScan *state = scan->opaque;

	return state->filter ? winnow_filter_conditions(state->filter) : NIL;
}

/* amendscan */
void
winnow_endscan(IndexScanDesc scan)
{
	WinnowScan *state = scan->opaque;

	if (state->fetch != NULL)
		winnow_fetch_end(state->fetch);
	MemoryContextDelete(state->context);
	pfree(state->index);
	pfree(state);
	scan->opaque = NULL;
}
