/*
 * search_private.h
 *		What a search is; for search*.c alone.
 */
#ifndef WINNOW_SEARCH_PRIVATE_H
#define WINNOW_SEARCH_PRIVATE_H

#include "search.h"

#include <math.h>

/* A row known by its code */
typedef struct Candidate
{
	float		lower;			/* lower bound of its score */
	uint32		list;			/* that it was in, by number */
	uint64 id : 48;
	uint64 place : 16; /* in the list, if its refinement code is not read yet */
} Candidate;

/* There is no refinement code, or it has been read, or it is too far away */
#define WINNOW_NO_PLACE	PG_UINT16_MAX

#define candidate_before(a, b) ((a)->lower < (b)->lower)
WINNOW_HEAP(candidates, Candidate, candidate_before)

/*
 * A list that has been read and has rows that were not good enough to become candidates, or in doubt.  As
 * most searches end with the rows that they first looked for, it is read again if this one goes on.
 */
typedef struct WinnowLeft
{
	BlockNumber block;
	XLogRecPtr	asof;			/* when it was named */
	uint32		list;			/* its number */
	int			ngroups;		/* of those that come later nobody sees the rows */
	Size		taken;			/* where the bits are of those that became one, by group and slot */
} WinnowLeft;

WINNOW_ARRAY(lefts, WinnowLeft)
WINNOW_ARRAY(words, uint64)

/* A row known by its distances, one per ORDER BY key; NaN sorts last */
typedef struct Found
{
	double		distance;
	double	   *more;			/* of the further keys */
	uint64		id;
	uint64		nprobed;		/* lists read when it was found */
	uint64		ntested;		/* and rows tested */
	WinnowRowPlace at;			/* where the row was */
	int			nmore;
	uint32		list;
} Found;

static inline int
compare_distance(double a, double b)
{
	if (isnan(a) || isnan(b))
		return (isnan(a) ? 1 : 0) - (isnan(b) ? 1 : 0);
	return a < b ? -1 : a > b;
}

static inline bool
result_before(const Found *a, const Found *b)
{
	int			order = compare_distance(a->distance, b->distance);

	for (int i = 0; order == 0 && i < a->nmore; i++)
		order = compare_distance(a->more[i], b->more[i]);
	return order < 0;
}

WINNOW_HEAP(results, Found, result_before)

typedef struct Score
{
	double		score;
	uint32		list;			/* that the row was in */
} Score;

#define score_before(a, b) ((a)->score > (b)->score)
WINNOW_HEAP(scores, Score, score_before)

struct WinnowSearch
{
	IndexScanDesc scan;
	Relation	rel;
	const WinnowIndex *index;
	const WinnowFilter *filter;
	WinnowFetch *fetch;
	Bitmapset  *rechecked;		/* columns that the filter's rechecks need ... */
	Bitmapset  *compared;		/* ... and that of the vector */
	IndexScanState *tester;		/* has conditions that rows are to pass; NULL: none */
	WinnowRecall recall;
	WinnowScanCounters *counters;

	double		target;			/* recall */
	double		expected;		/* rows that match, as the planner has it, or 0 */
	int			first_column;	/* that the filter looks at; -1: none */
	float	   *query;			/* index space */
	bool		directed;		/* false: every row is as good as another */
	WinnowQueryCode *code;
	WinnowRefinementQuery *refined; /* the same in more bits; NULL: the index has one bit only */
	uint8	   *record;			/* a refinement code */
	uint32		refinable;		/* the list that "groups" and "code" are of; PG_UINT32_MAX: none */
	bool		prepared;		/* "refined" is for that list */
	float	   *centroid;
	float	   *estimate;
	float	   *lower;
	float	   *error;
	float	   *norm;
	WinnowView *view;
	BlockNumber *first_data;	/* data pages of a node's first group */
	int			nfirst_data;

	WinnowView **groups;		/* of the list that was read last */
	int			ngroups;
	int			allocated;

	WinnowQueue queue;			/* nodes not yet read */
	float		least_key;		/* of the children of the inner node at hand */
	bool		sorted;			/* results are, best last */
	bool		gathering;		/* children go to "rest" instead, as they come */
	winnow_items_array rest;		/* all that is not yet read, while it is read */
	candidates_heap active;		/* candidates that were good enough when found */
	candidates_heap pool;		/* the others, without order */
	lefts_array left;			/* lists that have rows in neither of them */
	words_array taken;			/* bits of those lists' rows that became candidates */
	Size		nleft;			/* rows of those lists that did not */
	Size		nleft_doubtful; /* of them, rows in doubt */
	Size		ndoubtful;		/* active, in the pool or left, rows in doubt: their lower bound is infinite */
	int			nrounds;		/* times that the search was deepened, with the first */
	results_heap results;		/* reranked, not returned */
	bool		replaying;		/* began on a standby: pages may be reused meanwhile */
	uint64	   *returned;		/* on a standby: ids of the rows returned ... */
	Size		nsorted;		/* of which so many are sorted: they are not found again */
	Size		returned_size;
	int			restarts;		/* without a row between them */
	scores_heap best;			/* worst on top: as many as the goal lacks */

	int64		goal;			/* k: rows to find before returning any */
	uint32		nestimated;		/* lists read that had a row that passed, since the start */
	uint64		nprobed;		/* lists read */
	uint64		ntested;		/* and rows of theirs tested */
	uint64		needed_probed;	/* of both, until the last row returned was found */
	uint64		needed_tested;
	uint64		next_look;		/* lists read when to estimate the matches again */
	int64		nfound;			/* rows reranked that match */
	int64		nbefore;		/* of these, so many before the start */
	int64		nrejected;		/* rows reranked that do not, since the start */
	int64		nreturned;
	Size		wanted;			/* scores that best should hold */
};

/* Rows that are fetched from the table together */
#define WINNOW_ROWS_AT_ONCE 8

/* Lists read before it is worth estimating how many rows match */
#define WINNOW_FIRST_LOOK 16

/* search.c */
extern double winnow_search_accepted(const WinnowSearch *search);
extern void winnow_search_activate(WinnowSearch *search);
extern bool winnow_search_collect(WinnowSearch *search);
extern void winnow_search_rerank(WinnowSearch *search, const Candidate *candidates, int n);
extern void winnow_search_start_again(WinnowSearch *search);

/* search_read.c */
extern void winnow_search_prepare(WinnowSearch *search);
extern WinnowView *winnow_search_list_view(const WinnowSearch *search);
extern bool winnow_search_expand(WinnowSearch *search, const WinnowQueueItem *node);
extern int	winnow_search_read_list(WinnowSearch *search, BlockNumber block, XLogRecPtr asof,
									bool leaves);
extern int	winnow_search_count_list(WinnowSearch *search, int passed);
extern void winnow_search_prefetch(const WinnowSearch *search, const WinnowQueueItem *node);
extern void winnow_search_prefetch_codes(const WinnowSearch *search, int passed);

/* search_memory.c */
extern void winnow_search_borrow(WinnowSearch *search);

/* search_all.c */
extern bool winnow_all_pays(const WinnowSearch *search);
extern bool winnow_search_all(WinnowSearch *search);

#endif							/* WINNOW_SEARCH_PRIVATE_H */
