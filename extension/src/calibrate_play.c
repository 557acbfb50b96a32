/*
 * calibrate_play.c
 *		Searches played through in memory.
 *
 * A search reads lists in the order of their keys, as estimated by codes, and asks recall.c
 * now and then whether to go on.  Here the lists of the exact neighbours are known, so the
 * recall that it would stop at is found for every tolerance at once.
 */
#include "postgres.h"

#include "calibrate_private.h"

#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* The lists of one query in the order in which a search reads them */
typedef struct Play
{
	float		effective_dim;
	WinnowRecall recall;
	WinnowQueueItem *lists;		/* "block" is the number of the list */
	int			nlists;
	int		   *place;			/* of every list in that order; -1: no row passes */
	float	   *plane;			/* their planes, by what a search knows once it has read them */
	float	   *better;			/* sum of better rows over the lists up to a place */
	float	   *share;			/* sum of the ball's shares likewise, as they are when read ... */
	float	   *unread;			/* ... and before */
	double		effort[WINNOW_RECALL_TARGETS];	/* see winnow_recall_effort */
	bool		expects;		/* the planner knows how many rows pass the filter */
	double	   *tested;			/* rows of the lists up to a place */
	double	   *passed;			/* of those, rows that pass the filter */
} Play;

static int
compare_items(const void *a, const void *b)
{
	float		x = ((const WinnowQueueItem *) a)->key;
	float		y = ((const WinnowQueueItem *) b)->key;

	return x < y ? -1 : x > y;
}

static int
compare_neighbours(const void *a, const void *b)
{
	if (neighbour_before(a, b))
		return 1;
	return neighbour_before(b, a) ? -1 : 0;
}

/* Put all lists into the order of a query */
static void
order_lists(const WinnowCalibration *calibration, int query, Play *play,
			WinnowQueueItem *order)
{
	int			dims = calibration->index->dims;

	winnow_recall_init(&play->recall, 0.5, calibration->index,
					   calibration->queries + (Size) query * dims);
	play->recall.effective_dim = play->effective_dim;
	play->recall.root2 = winnow_kernels->inner_product(calibration->mean, calibration->mean,
													   dims);
	for (int l = 0; l < calibration->nlists; l++)
	{
		order[l].level = 0;
		winnow_recall_describe(&play->recall,
							   calibration->estimates[(Size) l * calibration->nplayed + query - calibration->first],
							   &calibration->stats[l], calibration->spread[l], &order[l]);
		order[l].block = l;
	}
	qsort(order, calibration->nlists, sizeof(WinnowQueueItem), compare_items);
}

/* Leave the lists that have a match, as if summaries had pruned the others */
static void
prune_lists(const WinnowCalibration *calibration, int query, int filter, Play *play,
			const WinnowQueueItem *order)
{
	WinnowQueueItem best = {0};

	play->nlists = 0;
	for (int i = 0; i < calibration->nlists; i++)
	{
		int			list = order[i].block;
		int			passed = rows_passed(calibration, filter, list, query);
		int			before = play->nlists - 1;
		WinnowQueueItem read;

		play->place[list] = passed > 0 ? play->nlists : -1;
		if (passed == 0)
			continue;
		read = order[i];
		read.centroid_score =
			calibration->centroids[(Size) list * calibration->nplayed + query - calibration->first];
		if (play->nlists == 0)
			best = read;
		play->lists[play->nlists] = order[i];
		play->lists[play->nlists].plane = winnow_recall_plane(&play->recall, &order[i], &best);
		play->plane[play->nlists] = winnow_recall_plane(&play->recall, &read, &best);
		play->tested[play->nlists] = (before < 0 ? 0 : play->tested[before]) + order[i].rows;
		play->passed[play->nlists] = (before < 0 ? 0 : play->passed[before]) + passed;
		play->nlists++;
	}
}

/* The estimates' terms at a threshold, summed up from the first list on */
static void
sum_terms(Play *play, float threshold)
{
	float		scale = winnow_recall_ball_scale(&play->recall, threshold);
	double		better = 0;
	double		share = 0;
	double		unread = 0;

	for (int i = 0; i < play->nlists; i++)
	{
		better += winnow_recall_better_rows(&play->lists[i], threshold);
		share += i == 0 ? 1 : winnow_recall_ball_share(play->plane[i], scale);
		unread += winnow_recall_ball_share(play->lists[i].plane, scale);
		play->better[i] = (float) better;
		play->share[i] = (float) share;
		play->unread[i] = (float) unread;
	}
}

/* The k best of the lists read, sorted, and the places of their lists */
typedef struct Best
{
	int			k;
	int			count;
	float		score[MOST_K];
	int			place[MOST_K];
} Best;

/* Returns whether the row is one of them */
static bool
best_add(Best *best, float score, int place)
{
	int			i;

	if (best->count == best->k && score >= best->score[best->k - 1])
		return false;
	for (i = best->count == best->k ? best->k - 1 : best->count++; i > 0 && best->score[i - 1] > score; i--)
	{
		best->score[i] = best->score[i - 1];
		best->place[i] = best->place[i - 1];
	}
	best->score[i] = score;
	best->place[i] = place;
	return true;
}

/* Share of the rows of lists not read that are expected to pass, when n have been read */
static double
pass_rate(const Play *play, int n)
{
	int			last = play->nlists - 1;

	return winnow_recall_pass_rate(play->passed[n - 1], play->tested[n - 1],
								   play->expects ? play->passed[last] : 0,
								   play->tested[last] - play->tested[n - 1]);
}

/*
 * Share of the k best that is estimated to be missing when n lists have been
 * read, as in winnow_recall_reached
 */
static double
missing(const Play *play, const Best *best, int n, double rate)
{
	int			last = play->nlists - 1;
	int			late = (int) winnow_recall_late(n);
	double		early = late > 0 ? play->share[late - 1] : 0;
	double		have = play->share[n - 1];
	double		by_rows = (play->better[last] - play->better[n - 1]) * rate / best->k;
	int			hits = 0;

	for (int i = 0; i < best->k; i++)
		hits += best->place[i] >= late;
	return Max(by_rows, winnow_recall_missing(hits, have - early, have,
											  play->unread[last] - play->unread[n - 1], best->k));
}

/* How far a search has come: the next tolerance to be tried, for every target */
typedef struct Progress
{
	int			step[WINNOW_RECALL_TARGETS];
	double		tolerance[WINNOW_RECALL_TARGETS];
	int			open;			/* targets for which there is another */
} Progress;

/*
 * When n lists have been read and a share of the k best is found: with which
 * tolerances does the search stop here?
 */
static void
stop_searches(const Play *play, const Best *best, int n, double found, Progress *progress,
			  Outcome *outcome)
{
	double		rate = pass_rate(play, n);
	double		lacking = missing(play, best, n, rate);
	double		matching = play->tested[play->nlists - 1] * rate;
	double		usual = winnow_recall_usual_lists(play->nlists, best->k,
												  Min(best->k / matching, 1));

	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
	{
		double		bearable;

		if (progress->step[t] == STEPS)
			continue;
		bearable = winnow_recall_bearable(1, n, usual * play->effort[t]);
		while (progress->step[t] < STEPS && lacking <= progress->tolerance[t] * bearable)
		{
			outcome->recall[t][progress->step[t]++] += found;
			progress->tolerance[t] *= STEP;
		}
		progress->open -= progress->step[t] == STEPS;
	}
}

/*
 * Play the search of one query under one filter, whose neighbours are sorted:
 * add the recall at which it stops to the outcome of every target and tolerance.
 */
static void
play_search(Play *play, int k, const Neighbour *nearest, int nnearest, Outcome *outcome)
{
	Best		best = {.k = k};
	Progress	progress = {.open = WINNOW_RECALL_TARGETS};
	int			nhits = 0;
	int		   *at = palloc0(sizeof(int) * (play->nlists + 1));	/* first neighbour of a list */
	int		   *next = palloc(sizeof(int) * nnearest);

	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		progress.tolerance[t] = LARGEST;
	for (int j = nnearest - 1; j >= 0; j--)
	{
		int			place = play->place[nearest[j].list];

		next[j] = at[place];
		at[place] = j + 1;
	}
	for (int n = 1; n <= play->nlists && progress.open > 0; n++)
	{
		bool		changed = false;

		for (int j = at[n - 1]; j > 0; j = next[j - 1])
		{
			nhits += j - 1 < k;
			changed |= best_add(&best, nearest[j - 1].score, n - 1);
		}
		if (best.count < k)
			continue;
		if (changed)
			sum_terms(play, best.score[k - 1]);
		stop_searches(play, &best, n, (double) nhits / k, &progress, outcome);
	}
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		while (progress.step[t] < STEPS)
			outcome->recall[t][progress.step[t]++] += 1;
	outcome->count++;
	pfree(at);
	pfree(next);
}

/*
 * Play the searches of the queries whose notes are loaded, under all filters, and
 * add what comes out to the outcomes.
 */
void
winnow_calibration_play(WinnowCalibration *calibration, float effective_dim, int k,
						Outcome *outcomes)
{
	Play		play = {0};
	WinnowQueueItem *order;
	int			nlists = calibration->nlists;

	play.effective_dim = effective_dim;
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		play.effort[t] = winnow_recall_effort(winnow_calibration_targets[t]);
	order = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.lists = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.place = palloc_extended(sizeof(int) * nlists, MCXT_ALLOC_HUGE);
	play.better = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.plane = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.share = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.unread = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.tested = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	play.passed = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	for (int i = calibration->first; i < calibration->first + calibration->nplayed; i++)
	{
		order_lists(calibration, i, &play, order);
		for (int f = 0; f < FILTERS; f++)
		{
			neighbours_heap *nearest = &calibration->nearest[f][i];

			CHECK_FOR_INTERRUPTS();
			if (i >= queries_of(calibration, f) || nearest->count < 2 * (Size) k)
				continue;
			qsort(nearest->items, nearest->count, sizeof(Neighbour), compare_neighbours);
			prune_lists(calibration, i, f, &play, order);

			/*
			 * What it knows helps where a filter goes with the vector.
			 * Elsewhere it may do without.
			 */
			play.expects = f >= RANDOM_FILTERS;
			play_search(&play, k, nearest->items, nearest->count, &outcomes[f]);
		}
	}
	pfree(order);
	pfree(play.lists);
	pfree(play.place);
	pfree(play.better);
	pfree(play.plane);
	pfree(play.share);
	pfree(play.unread);
	pfree(play.tested);
	pfree(play.passed);
}
