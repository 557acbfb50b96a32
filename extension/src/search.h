/*
 * search.h
 *		The walk over the tree for one query.
 */
#ifndef WINNOW_SEARCH_H
#define WINNOW_SEARCH_H

#include "winnow.h"

#include "heap.h"

/*
 * What a search did; winnow_last_scan() shows it.  Every member is a uint64,
 * in the order of SCAN_COUNTERS in stats.c.
 */
typedef struct WinnowScanCounters
{
	uint64		searches;		/* scans started, with rescans */
	uint64		inner_nodes;	/* inner nodes read */
	uint64		lists_pruned;	/* children whose summary no key could pass */
	uint64		lists_probed;	/* lists read */
	uint64		rows_tested;	/* rows whose attribute columns were tested */
	uint64		rows_passed;	/* of those, rows the columns let pass */
	uint64		codes_estimated;
	uint64		reranked;		/* heap rows fetched */
	uint64		invisible;		/* of those, not visible to the snapshot */
	uint64		rechecked_out;	/* of those, dropped by the exact keys */
	uint64		rounds;			/* times the search was deepened, with the first */
	uint64		returned;
} WinnowScanCounters;

extern WinnowScanCounters winnow_scan_counters;

/* A node not yet read, and how the scores of the rows below are distributed */
typedef struct WinnowQueueItem
{
	float		key;			/* expected score of the best row below */
	float		mean;			/* of the rows' scores */
	float		inverse_sd;		/* one over their standard deviation */
	float		centroid_score;
	float		spread;			/* the centroid's squared distance to the root's */
	float		rows;
	BlockNumber block;
	int16		level;
	bool		exact;			/* the centroid's score is not an estimate */
} WinnowQueueItem;

#define queue_before(a, b) ((a)->key < (b)->key)
WINNOW_HEAP(queue, WinnowQueueItem, queue_before)

/* recall.c */
typedef struct WinnowRecall
{
	double		target;
	bool		exact;			/* target 1: nothing may be missed */
	WinnowMetric metric;
	float		effective_dim;
	float		epsilon;		/* for the bounds of codes */
	uint64		next_check;		/* lists probed when to look again */
	queue_heap	probed;			/* lists read, in that order */
	double		tested;			/* their rows */
	double		passed;			/* of those, rows that pass the filter */
} WinnowRecall;

extern void winnow_recall_init(WinnowRecall *recall, double target,
							   const WinnowIndex *index);
extern void winnow_recall_describe(const WinnowRecall *recall, float centroid_score,
								   float span, const WinnowChildStats *stats,
								   WinnowQueueItem *item);
extern void winnow_recall_probed(WinnowRecall *recall, const WinnowQueueItem *list,
								 int tested, int passed);
extern bool winnow_recall_reached(WinnowRecall *recall, const queue_heap *unread,
								  double threshold, int64 k);

/* search.c */
typedef struct WinnowSearch WinnowSearch;

extern WinnowSearch *winnow_search_begin(IndexScanDesc scan, const WinnowIndex *index,
										 const WinnowFilter *filter, WinnowFetch *fetch,
										 double target, int64 limit);
extern bool winnow_search_next(WinnowSearch *search, ItemPointer tid);

#endif							/* WINNOW_SEARCH_H */
