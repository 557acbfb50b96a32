/*
 * recall.h
 *		When to stop.
 */
#ifndef WINNOW_RECALL_H
#define WINNOW_RECALL_H

#include "queue.h"

typedef struct WinnowRecall
{
	double		target;
	bool		exact;			/* target 1: nothing may be missed */
	double		tolerance[WINNOW_RECALL_KINDS];	/* share of the k best that may be missed; see
												 * tolerance_for */
	float		epsilon;		/* for the bounds of codes */
	WinnowMetric metric;
	float		effective_dim;
	float		error_share;	/* of the errors of codes that counts */
	double		query2;			/* |q|^2 */
	double		root2;			/* squared length of the root's centroid */
	double		described;		/* rows of the nodes described */
	double		variance;		/* sum of their squared distances to the root's centroid */
	double		next_check;		/* lists read when to look again */
	bool		volume_last;	/* the estimate that said no was that by volume */
	winnow_items_array probed;	/* lists read that had a match, in that order */
	double		expected;		/* rows that match, as the planner has it, or 0 */
	double		unread;			/* rows of the nodes queued, not read */
	double		nread;			/* all lists read */
	double		tested;			/* rows of these */
	double		passed;			/* of those, rows that pass the filter by their columns */
	double		accepted;		/* share of these that match */
} WinnowRecall;

extern void winnow_recall_init(WinnowRecall *recall, double target, const WinnowIndex *index,
							   const float *query);
extern double winnow_recall_usual_lists(double n, double k, double share);
extern double winnow_recall_effort(double target);
extern double winnow_recall_bearable(double tolerance, double nlists, double usual);
extern void winnow_recall_grown(WinnowRecall *recall, const WinnowIndex *index, double nrows);
extern void winnow_recall_describe(WinnowRecall *recall, float centroid_score, float error,
								   const WinnowChildStats *stats, float spread,
								   WinnowQueueItem *item);
extern void winnow_recall_probed(WinnowRecall *recall, const WinnowQueueItem *list,
								 int tested, int passed, bool matched);
extern bool winnow_recall_due(const WinnowRecall *recall);
extern Size winnow_recall_late(Size nlists);
extern double winnow_recall_pass_rate(double passed, double tested, double expected,
									  double unread);
extern double winnow_recall_missing(double hits, double late, double have, double lack,
									double k);
extern bool winnow_recall_reached(WinnowRecall *recall, WinnowQueue *unread,
								  double threshold, int64 k, int64 nbest, int64 hits);
extern double winnow_recall_code_share(double target);

/* The estimates' terms for one list; calibrate_play.c sums them in its own way */
extern float winnow_recall_ball_scale(const WinnowRecall *recall, double threshold);
extern void winnow_recall_place(const WinnowRecall *recall, WinnowQueueItem *list,
								const WinnowQueueItem *best);
extern float winnow_recall_ball_share(const WinnowQueueItem *list, float scale);
extern float winnow_recall_better_rows(const WinnowQueueItem *list, float threshold);

/* Tolerances of searches for more than 100 rows fall with that power of the number */
#define WINNOW_MORE_ROWS 0.5

#endif							/* WINNOW_RECALL_H */
