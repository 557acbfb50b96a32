/*
 * calibrate.c
 *		Which tolerance of the stopping rule gives which recall, and with which
 *		effective dimension.
 *
 * While an index is built, some rows of the sample are taken as queries, under
 * filters made up for the purpose: rows drawn at random, at several rates, and
 * the rows near another query, which stand for filters that go with the vector.
 * The exact neighbours of every query and the list of each are found as the
 * lists are written.  Then the search is played through for each query and
 * filter, in the order and by the estimates of recall.c, noting the recall at
 * which it would have stopped for every tolerance.  The tolerance of a target is
 * the largest at which no kind of filter falls short of it.
 *
 * DESIGN.md, section 4, has figures.
 */
#include "postgres.h"

#include "recall.h"

#include <math.h>

#include "core/random.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Queries, neighbours that are played for, and neighbours that are kept */
#define QUERIES 128
#define K 10
#define KEPT 100

/*
 * Filters: shares of rows drawn at random, then shares of rows near another
 * query: one at random, and the farthest.  Few categories are confined to a
 * region, so some other rows pass the latter too: a tenth as many, for the last
 * query a thousandth.
 */
#define RANDOM_FILTERS 4
#define FARTHEST_FILTER 5
#define FILTERS 6
static const double shares[FILTERS] = {1, 0.1, 0.01, 0.001, 0.05, 0.02};

/* Rows that the radius of the latter is found with */
#define RADIUS_ROWS 2000

/* Played queries that a kind of filter must have to count */
#define ENOUGH_QUERIES 32

/* Fewer lists than that are not worth calibrating */
#define ENOUGH_LISTS 16

/* Queries that are not rows of the table are a little harder */
#define SAFETY 0.9

/* Tolerances that are tried: a geometric series from the largest down */
#define STEPS 96
#define LARGEST 3.0
#define STEP 0.91

/*
 * The effective dimension is halved until this tolerance does for a recall of
 * .95.  Estimates that are far too small leave nothing to be tolerated.
 */
#define LEAST_TOLERANCE 0.01
#define LEAST_TARGET 4
#define LEAST_DIM 2

/* Targets that tolerances are kept for; between them they are interpolated */
static const double targets[WINNOW_RECALL_TARGETS] =
	{0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995};

/* Before anything is known of the data: the dimension, and tolerances small enough for text embeddings */
#define EFFECTIVE_DIM 96
static const float defaults[WINNOW_RECALL_TARGETS] =
	{0.8f, 0.4f, 0.25f, 0.1f, 0.045f, 0.015f, 0.006f, 0.0025f};

typedef struct Neighbour
{
	float		score;
	int			list;
} Neighbour;

#define neighbour_before(a, b) ((a)->score > (b)->score)
WINNOW_HEAP(neighbours, Neighbour, neighbour_before)

struct WinnowCalibration
{
	const WinnowIndex *index;
	MemoryContext context;
	int			nqueries;		/* 0: there is no sample yet */
	float	   *queries;
	float	   *query2;			/* their squared lengths */
	float	   *mean;			/* of the sample */
	float	   *distance2;		/* of a row to every query */
	double	   *stray;			/* rows elsewhere that pass a filter near a query, as a share */
	bool	   *met;			/* has the query's own row been met? */
	int		   *other[FILTERS]; /* of filters near a query: which one, per query */
	float	   *radius2[FILTERS];	/* and how near */
	neighbours_heap *nearest[FILTERS];	/* per query; the worst on top */
	uint64_t	random;

	int			nlists;
	int			allocated;
	WinnowChildStats *stats;	/* of every list */
	float	   *centroids;		/* scores of every list's centroid, a query after the other */
	float	   *spread;			/* squared distance of every list's centroid to the mean */
	uint16	   *passed[FILTERS];	/* rows of every list that pass, per query */
};

/* What a search played through adds up to, by filter and tolerance */
typedef struct Outcome
{
	double		recall[STEPS];
	int			count;
} Outcome;

void
winnow_calibration_default(WinnowMeta *meta)
{
	meta->effective_dim = Min(meta->dims, EFFECTIVE_DIM);
	memcpy(meta->tolerance, defaults, sizeof(defaults));
}

/* The tolerance for a target, between those that are kept */
double
winnow_tolerance(const float *tolerance, double target)
{
	int			i = 1;
	double		from;
	double		to;
	double		share;

	if (target >= 1)
		return 0;
	if (target >= targets[WINNOW_RECALL_TARGETS - 1])
		return tolerance[WINNOW_RECALL_TARGETS - 1] * (1 - target) /
			(1 - targets[WINNOW_RECALL_TARGETS - 1]);
	while (targets[i] < target)
		i++;
	from = log(1 - targets[i - 1]);
	to = log(1 - targets[i]);
	share = Max(0, (log(1 - target) - from) / (to - from));
	return exp(log(tolerance[i - 1]) * (1 - share) + log(tolerance[i]) * share);
}

WinnowCalibration *
winnow_calibration_create(const WinnowIndex *index)
{
	WinnowCalibration *calibration = palloc0(sizeof(WinnowCalibration));

	calibration->index = index;
	calibration->context = CurrentMemoryContext;
	calibration->random = 1;
	return calibration;
}

static int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return x < y ? -1 : x > y;
}

/* The queries whose neighbourhoods are filters for query i */
static void
choose_others(WinnowCalibration *calibration, int i)
{
	int			dims = calibration->index->dims;
	int			nqueries = calibration->nqueries;
	int			farthest = 0;

	winnow_kernels->l2_squared_many(calibration->queries + (Size) i * dims,
									calibration->queries, dims, nqueries, dims,
									calibration->distance2);
	for (int j = 1; j < nqueries; j++)
		if (calibration->distance2[j] > calibration->distance2[farthest])
			farthest = j;
	for (int f = RANDOM_FILTERS; f < FILTERS; f++)
		calibration->other[f][i] = f == FARTHEST_FILTER ? farthest :
			(i + nqueries / 2) % nqueries;
}

/* How near a row must be to pass such a filter, judging by the sample */
static void
find_radii(WinnowCalibration *calibration, const float *sample, int nsample)
{
	int			dims = calibration->index->dims;
	int			stride = Max(1, nsample / RADIUS_ROWS);
	int			count = (nsample + stride - 1) / stride;
	float	   *distance2 = palloc(sizeof(float) * count);

	for (int i = 0; i < calibration->nqueries; i++)
	{
		choose_others(calibration, i);
		for (int f = RANDOM_FILTERS; f < FILTERS; f++)
		{
			winnow_kernels->l2_squared_many(calibration->queries +
												(Size) calibration->other[f][i] * dims,
											sample,
											(Size) stride * dims, count, dims, distance2);
			qsort(distance2, count, sizeof(float), compare_floats);
			calibration->radius2[f][i] = distance2[(int) (shares[f] * (count - 1))];
		}
	}
	pfree(distance2);
}

static float *
mean_of(const float *rows, int nrows, int dims)
{
	double	   *sum = palloc0(sizeof(double) * dims);
	float	   *mean = palloc(sizeof(float) * dims);

	for (int i = 0; i < nrows; i++)
		for (int d = 0; d < dims; d++)
			sum[d] += rows[(Size) i * dims + d];
	for (int d = 0; d < dims; d++)
		mean[d] = (float) (sum[d] / nrows);
	pfree(sum);
	return mean;
}

/* Take queries from a sample of the rows, unless that has been done */
void
winnow_calibration_seed(WinnowCalibration *calibration, const float *sample, int nsample)
{
	MemoryContext old = MemoryContextSwitchTo(calibration->context);
	int			dims = calibration->index->dims;
	int			nqueries = Min(QUERIES, nsample);

	if (calibration->nqueries == 0 && nqueries >= ENOUGH_QUERIES)
	{
		calibration->nqueries = nqueries;
		calibration->queries = palloc(sizeof(float) * dims * nqueries);
		calibration->query2 = palloc(sizeof(float) * nqueries);
		calibration->mean = mean_of(sample, nsample, dims);
		for (int i = 0; i < nqueries; i++)
		{
			float	   *query = calibration->queries + (Size) i * dims;

			memcpy(query, sample + (Size) ((int64) i * nsample / nqueries) * dims,
				   sizeof(float) * dims);
			calibration->query2[i] = winnow_kernels->inner_product(query, query, dims);
		}
		calibration->distance2 = palloc(sizeof(float) * nqueries);
		calibration->stray = palloc(sizeof(double) * nqueries);
		for (int i = 0; i < nqueries; i++)
			calibration->stray[i] = 0.1 * pow(0.01, (double) i / nqueries);
		calibration->met = palloc0(sizeof(bool) * nqueries);
		for (int f = 0; f < FILTERS; f++)
		{
			calibration->other[f] = palloc0(sizeof(int) * nqueries);
			calibration->radius2[f] = palloc0(sizeof(float) * nqueries);
			calibration->nearest[f] = palloc0(sizeof(neighbours_heap) * nqueries);
		}
		find_radii(calibration, sample, nsample);
	}
	MemoryContextSwitchTo(old);
}

/* Room for one more list */
static void
grow(WinnowCalibration *calibration)
{
	Size		size;

	if (calibration->nlists < calibration->allocated)
		return;
	if (calibration->allocated == 0)
	{
		calibration->stats = palloc(sizeof(WinnowChildStats));
		calibration->spread = palloc(sizeof(float));
		calibration->centroids = palloc(sizeof(float));
		for (int f = 0; f < FILTERS; f++)
			calibration->passed[f] = palloc(sizeof(uint16));
	}
	calibration->allocated = Max(256, calibration->allocated * 2);
	size = (Size) calibration->allocated * calibration->nqueries;
	calibration->stats = repalloc_huge(calibration->stats,
									   sizeof(WinnowChildStats) * calibration->allocated);
	calibration->spread = repalloc_huge(calibration->spread,
										sizeof(float) * calibration->allocated);
	calibration->centroids = repalloc_huge(calibration->centroids, sizeof(float) * size);
	for (int f = 0; f < FILTERS; f++)
		calibration->passed[f] = repalloc_huge(calibration->passed[f], sizeof(uint16) * size);
}

/* The score that a query gives to a vector, from their distance */
static inline float
score_of(const WinnowCalibration *calibration, int query, float distance2, float length2)
{
	return calibration->index->metric != WINNOW_METRIC_IP ? distance2 :
		(distance2 - length2 - calibration->query2[query]) / 2;
}

static void
offer(neighbours_heap *nearest, float score, int list)
{
	Neighbour	neighbour = {score, list};

	if (nearest->count < KEPT)
		neighbours_push(nearest, neighbour);
	else if (score < nearest->items[0].score)
	{
		nearest->items[0] = neighbour;
		neighbours_sift_down(nearest, 0);
	}
}

/* Offer one row of a list to every query, under every filter that it passes */
static void
offer_row(WinnowCalibration *calibration, int list, const float *row)
{
	const WinnowIndex *index = calibration->index;
	int			nqueries = calibration->nqueries;
	float	   *distance2 = calibration->distance2;
	uint16	   *passed[FILTERS];
	float		length2 = 0;
	double		draw = winnow_random_unit(&calibration->random);

	winnow_kernels->l2_squared_many(row, calibration->queries, index->dims, nqueries,
									index->dims, distance2);
	if (index->metric == WINNOW_METRIC_IP)
		length2 = winnow_kernels->inner_product(row, row, index->dims);
	for (int f = 0; f < FILTERS; f++)
		passed[f] = calibration->passed[f] + (Size) list * nqueries;
	for (int i = 0; i < nqueries; i++)
	{
		float		score;

		if (distance2[i] == 0 && !calibration->met[i])
		{
			calibration->met[i] = true;
			continue;
		}
		score = score_of(calibration, i, distance2[i], length2);
		for (int f = 0; f < FILTERS; f++)
		{
			bool		passes = draw < shares[f] * (f < RANDOM_FILTERS ? 1 : calibration->stray[i]);

			if (f >= RANDOM_FILTERS)
				passes |= distance2[calibration->other[f][i]] <= calibration->radius2[f][i];
			if (!passes)
				continue;
			passed[f][i]++;
			offer(&calibration->nearest[f][i], score, list);
		}
	}
}

/* A list has been written */
void
winnow_calibration_list(WinnowCalibration *calibration, const WinnowRows *rows,
						const WinnowNode *node)
{
	MemoryContext old = MemoryContextSwitchTo(calibration->context);
	int			dims = calibration->index->dims;
	int			nqueries = calibration->nqueries;
	int			list = calibration->nlists;
	float		length2;

	if (nqueries > 0)
	{
		grow(calibration);
		calibration->nlists++;
		memcpy(&calibration->stats[list], node->image, sizeof(WinnowChildStats));
		length2 = winnow_kernels->inner_product(node->centroid, node->centroid, dims);
		calibration->spread[list] = winnow_kernels->l2_squared(node->centroid,
															   calibration->mean, dims);
		winnow_kernels->l2_squared_many(node->centroid, calibration->queries, dims, nqueries,
										dims, calibration->distance2);
		for (int i = 0; i < nqueries; i++)
			calibration->centroids[(Size) list * nqueries + i] =
				score_of(calibration, i, calibration->distance2[i], length2);
		for (int f = 0; f < FILTERS; f++)
			memset(calibration->passed[f] + (Size) list * nqueries, 0,
				   sizeof(uint16) * nqueries);
		for (int i = 0; i < rows->count; i++)
			offer_row(calibration, list, rows->vectors + (Size) i * dims);
	}
	MemoryContextSwitchTo(old);
}

/* The lists of one query in the order in which a search reads them */
typedef struct Play
{
	float		effective_dim;
	WinnowRecall recall;
	WinnowQueueItem *lists;		/* "block" is the number of the list */
	int			nlists;
	int		   *place;			/* of every list in that order; -1: no row passes */
	float	   *better;			/* sum of better rows over the lists up to a place */
	float	   *share;			/* sum of the ball's shares likewise */
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
	float		x = ((const Neighbour *) a)->score;
	float		y = ((const Neighbour *) b)->score;

	return x < y ? -1 : x > y;
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
							   calibration->centroids[(Size) l * calibration->nqueries + query],
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
	play->nlists = 0;
	for (int i = 0; i < calibration->nlists; i++)
	{
		int			list = order[i].block;
		int			passed = calibration->passed[filter][(Size) list * calibration->nqueries + query];
		int			before = play->nlists - 1;

		play->place[list] = passed > 0 ? play->nlists : -1;
		if (passed == 0)
			continue;
		play->lists[play->nlists] = order[i];
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

	for (int i = 0; i < play->nlists; i++)
	{
		better += winnow_recall_better_rows(&play->lists[i], threshold);
		share += i == 0 ? 1 :
			winnow_recall_ball_share(&play->recall, &play->lists[i], &play->lists[0], scale);
		play->better[i] = (float) better;
		play->share[i] = (float) share;
	}
}

/* Share of the K best that is estimated to be missing when n lists have been read */
static double
missing(const Play *play, int n)
{
	int			last = play->nlists - 1;
	double		pass_rate = (play->passed[n - 1] + 1) / (play->tested[n - 1] + 1);
	double		by_rows = (play->better[last] - play->better[n - 1]) * pass_rate / K;
	double		by_volume = (play->share[last] - play->share[n - 1]) / play->share[last];

	return Max(by_rows, by_volume);
}

/*
 * Play the search of one query under one filter, whose neighbours are sorted:
 * add the recall at which it stops to the outcome of every tolerance.
 */
static void
play_search(Play *play, const Neighbour *nearest, int nnearest, Outcome *outcome)
{
	float		best[K];		/* of the lists read, sorted */
	int			nbest = 0;
	int			nhits = 0;
	int			step = 0;
	double		tolerance = LARGEST;
	int		   *at = palloc0(sizeof(int) * (play->nlists + 1));	/* first neighbour of a list */
	int		   *next = palloc(sizeof(int) * nnearest);

	for (int j = nnearest - 1; j >= 0; j--)
	{
		int			place = play->place[nearest[j].list];

		next[j] = at[place];
		at[place] = j + 1;
	}
	for (int n = 1; n <= play->nlists && step < STEPS; n++)
	{
		bool		changed = false;
		double		lacking;

		for (int j = at[n - 1]; j > 0; j = next[j - 1])
		{
			float		score = nearest[j - 1].score;
			int			i;

			nhits += j - 1 < K;
			if (nbest == K && score >= best[K - 1])
				continue;
			for (i = nbest == K ? K - 1 : nbest++; i > 0 && best[i - 1] > score; i--)
				best[i] = best[i - 1];
			best[i] = score;
			changed = true;
		}
		if (nbest < K)
			continue;
		if (changed)
			sum_terms(play, best[K - 1]);
		lacking = missing(play, n);
		for (; step < STEPS && lacking <= tolerance; tolerance *= STEP)
			outcome->recall[step++] += (double) nhits / K;
	}
	while (step < STEPS)
		outcome->recall[step++] += 1;
	outcome->count++;
	pfree(at);
	pfree(next);
}

/* Play all queries under all filters */
static void
play_all(WinnowCalibration *calibration, float effective_dim, Outcome *outcomes)
{
	Play		play = {0};
	WinnowQueueItem *order;
	int			nlists = calibration->nlists;

	play.effective_dim = effective_dim;
	order = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.lists = palloc_extended(sizeof(WinnowQueueItem) * nlists, MCXT_ALLOC_HUGE);
	play.place = palloc_extended(sizeof(int) * nlists, MCXT_ALLOC_HUGE);
	play.better = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.share = palloc_extended(sizeof(float) * nlists, MCXT_ALLOC_HUGE);
	play.tested = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	play.passed = palloc_extended(sizeof(double) * nlists, MCXT_ALLOC_HUGE);
	for (int i = 0; i < calibration->nqueries; i++)
	{
		order_lists(calibration, i, &play, order);
		for (int f = 0; f < FILTERS; f++)
		{
			neighbours_heap *nearest = &calibration->nearest[f][i];

			CHECK_FOR_INTERRUPTS();
			if (nearest->count < 2 * K)
				continue;
			qsort(nearest->items, nearest->count, sizeof(Neighbour), compare_neighbours);
			prune_lists(calibration, i, f, &play, order);
			play_search(&play, nearest->items, nearest->count, &outcomes[f]);
		}
	}
	pfree(order);
	pfree(play.lists);
	pfree(play.place);
	pfree(play.better);
	pfree(play.share);
	pfree(play.tested);
	pfree(play.passed);
}

/* The tolerances for all targets with an effective dimension; false: not known */
static bool
find_tolerances(WinnowCalibration *calibration, float effective_dim, float *tolerance)
{
	Outcome    *outcomes = palloc0(sizeof(Outcome) * FILTERS);
	bool		known = false;

	play_all(calibration, effective_dim, outcomes);
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
	{
		/* codes may cost some recall too */
		double		target = targets[t] + winnow_recall_code_share(targets[t]);
		double		least = LARGEST;

		for (int f = 0; f < FILTERS; f++)
		{
			double		largest = LARGEST;
			int			step = 0;

			if (outcomes[f].count < ENOUGH_QUERIES)
				continue;
			known = true;
			while (step < STEPS && outcomes[f].recall[step] < target * outcomes[f].count)
			{
				largest *= STEP;
				step++;
			}
			elog(DEBUG1, "winnow: dimension %g, target %g, filter %d (%d queries): tolerance %g",
				 effective_dim, targets[t], f, outcomes[f].count, largest);
			least = Min(least, largest);
		}
		tolerance[t] = (float) (least * SAFETY);
	}
	pfree(outcomes);
	return known;
}

/*
 * Set the effective dimension and the tolerances when all lists have been
 * written.  Where there is not enough to go by, they are left as they are.
 */
void
winnow_calibration_finish(WinnowCalibration *calibration, WinnowMeta *meta)
{
	float		tolerance[WINNOW_RECALL_TARGETS];
	float		dim = meta->effective_dim;

	if (calibration->nlists < ENOUGH_LISTS ||
		!find_tolerances(calibration, dim, tolerance))
		return;
	while (tolerance[LEAST_TARGET] < LEAST_TOLERANCE && dim / 2 >= LEAST_DIM)
	{
		dim /= 2;
		find_tolerances(calibration, dim, tolerance);
	}
	meta->effective_dim = dim;
	memcpy(meta->tolerance, tolerance, sizeof(tolerance));
}
