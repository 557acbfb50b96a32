/*
 * search.h
 *		The walk over the tree for one query.
 */
#ifndef WINNOW_SEARCH_H
#define WINNOW_SEARCH_H

#include "fetch.h"
#include "recall.h"

/*
 * What a search did; EXPLAIN ANALYZE and winnow_last_scan() show it.  Every member is a uint64,
 * in the order of the names in last_scan.c.
 */
typedef struct WinnowScanCounters
{
	uint64		searches;		/* scans started, with rescans */
	uint64		inner_nodes;	/* inner nodes read */
	uint64		lists_pruned;	/* children whose summary no key could pass */
	uint64		lists_probed;	/* lists read */
	uint64		lists_needed;	/* of those, until the last row that was returned was found */
	uint64		rows_tested;	/* rows whose attribute columns were tested */
	uint64		rows_needed;	/* of those, until then */
	uint64		rows_passed;	/* of those, rows the columns let pass */
	uint64		codes_estimated;	/* with those of lists read again when the search was deepened */
	uint64		refined;		/* of those, rows whose refinement codes were read */
	uint64		reranked;		/* heap rows fetched */
	uint64		invisible;		/* of those, not visible to the snapshot */
	uint64		rechecked_out;	/* of those, dropped by the exact keys or conditions */
	uint64		rounds;			/* times the search was deepened, with the first */
	uint64		restarts;		/* because pages were reused, on a standby */
	uint64		returned;
} WinnowScanCounters;

/* of this session's last scan */
extern WinnowScanCounters winnow_last_counters;

/* scan.c */
extern const WinnowScanCounters *winnow_scan_counters(IndexScanDesc scan);
extern List *winnow_scan_conditions(IndexScanDesc scan);

/* row_condition.c */
extern bool winnow_may_test(List *conditions, List *distances);
extern bool winnow_tests_rows(const IndexScanState *node);
extern bool winnow_row_passes(IndexScanState *node, TupleTableSlot *slot);

/* search.c */
typedef struct WinnowSearch WinnowSearch;

extern WinnowSearch *winnow_search_begin(IndexScanDesc scan, const WinnowIndex *index,
										 const WinnowFilter *filter, WinnowFetch *fetch,
										 double target, IndexScanState *node, int64 wanted,
										 WinnowScanCounters *counters);
extern bool winnow_search_next(WinnowSearch *search, ItemPointer tid);

#endif							/* WINNOW_SEARCH_H */
