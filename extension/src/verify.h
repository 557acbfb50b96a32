/*
 * verify.h
 *		winnow_check(): what its two halves share.
 *
 * verify.c walks the tree and checks it in itself; verify_heap.c compares its
 * rows with the table's.
 */
#ifndef WINNOW_VERIFY_H
#define WINNOW_VERIFY_H

#include "fetch.h"

#include "utils/snapshot.h"
#include "utils/tuplesort.h"

typedef struct WinnowCheck
{
	Relation	heap;
	Relation	rel;
	const WinnowIndex *index;

	/*
	 * On a standby nothing keeps replay from splitting and vacuuming under
	 * the check.  A node may be split between the reading of its parent's page
	 * and its own, so that it is met retired, and what is below it twice.  If
	 * its pages are in other use by then the walk starts again.  None of that
	 * is let pass if nothing was replayed since the walk began.
	 */
	bool		standby;
	XLogRecPtr	replay_began;	/* where replay was then; 0 if not between records */

	int			restarts;		/* because of pages that were gone */
	uint64	   *seen;			/* blocks met so far: a bit each */
	uint64		nseen;			/* bits there is room for */
	struct NodeCheck *nodes[WINNOW_MAX_LEVELS]; /* one for each level */

	Snapshot	snapshot;		/* rows that it sees are compared */
	WinnowFetch *fetch;
	Tuplesortstate *tids;		/* of all rows of the index */
	uint8	   *image;
	float	   *vector;
	uint8	   *code;
	uint8	   *record;			/* a refinement code */
} WinnowCheck;

/* A row of the index, as copied from its pages */
typedef struct WinnowCheckedRow
{
	BlockNumber node;			/* first head page of its node */
	BlockNumber block;			/* head page */
	XLogRecPtr	asof;			/* the page's LSN */
	int			slot;
	uint64		id;
	const uint8 *image;
	const uint8 *code;
	const uint8 *refinement;	/* code; NULL: there is none */
	const uint8 *imprint;		/* of a child; likewise */
	const float *centroid;		/* of its node */
} WinnowCheckedRow;

/* verify.c */
extern bool winnow_check_replayed(WinnowCheck *check);
extern bool winnow_check_code(WinnowCheck *check, const WinnowCheckedRow *row,
							  const float *vector);
pg_noreturn extern void winnow_check_failed(WinnowCheck *check, const WinnowCheckedRow *row,
											const char *fault);

/* verify_heap.c */
extern void winnow_check_heap_begin(WinnowCheck *check);
extern void winnow_check_heap_row(WinnowCheck *check, const WinnowCheckedRow *row);
extern void winnow_check_heap_cancel(WinnowCheck *check);
extern void winnow_check_heap_end(WinnowCheck *check, bool heapallindexed);

#endif							/* WINNOW_VERIFY_H */
