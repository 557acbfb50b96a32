/*
 * kmeans.c
 *		k-means clustering, and the balanced split of a list in two; see
 *		kmeans.h.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "kmeans.h"
#include "mean.h"
#include "random.h"

/* Rows per centroid that the iterations look at, and that seeds come from. */
#define SAMPLE_ROWS 64
#define SEED_ROWS 8

/* Iterations of a split; the cut rarely moves after the first few. */
#define SPLIT_ITERATIONS 10

/* The part of the rows that a side gets at least, and how often what is less is set apart. */
#define LEAST_SIDE 8
#define SPLIT_ATTEMPTS 4

/* Floats processed between two ticks: some 2 to 10 ms, by SIMD level. */
#define TICK_FLOATS (INT64_C(1) << 23)

typedef struct Ticker
{
	WinnowTick	tick;
	void	   *arg;
	int64_t		floats;			/* processed since the last tick */
} Ticker;

static void
count_work(Ticker *t, int64_t floats)
{
	t->floats += floats;
	if (t->floats >= TICK_FLOATS)
	{
		t->floats = 0;
		if (t->tick != NULL)
			t->tick(t->arg);
	}
}

static const float *
row_at(const float *rows, int row, int dim)
{
	return rows + (size_t) row * dim;
}

/* A distance as a weight: finite, so that sums and comparisons work. */
static float
capped(float distance)
{
	return distance <= FLT_MAX ? distance : FLT_MAX;
}

static void
add_row(double *sum, const float *row, int dim)
{
	for (int i = 0; i < dim; i++)
		sum[i] += row[i];
}

/* The mean of `count` > 0 rows that add up to sum. */
static void
set_mean(float *centroid, const double *sum, int count, int dim)
{
	double		share = 1.0 / count;

	for (int i = 0; i < dim; i++)
		centroid[i] = (float) (sum[i] * share);
}

void
winnow_nearest(const float *row, const float *centroids, int k, int dim,
			   int *best, float *distance, float *scratch)
{
	int			nearest = 0;

	winnow_kernels->l2_squared_many(row, centroids, dim, k, dim, scratch);
	for (int i = 1; i < k; i++)
		if (scratch[i] < scratch[nearest])
			nearest = i;
	*best = nearest;
	*distance = scratch[nearest];
}

/*
 * k-means
 */

/* The caller's scratch, cut up; the arrays of doubles come first. */
typedef struct KmeansScratch
{
	double	   *sums;			/* k * dim */
	int32_t    *sample;			/* rows sampled */
	int32_t    *cluster;		/* of each sampled row */
	int32_t    *counts;			/* k: sampled rows per cluster */
	float	   *distances;		/* of each sampled row to its centroid */
	float	   *to_all;			/* k: one row's distance to every centroid */
} KmeansScratch;

static int
sample_size(int n, int k)
{
	return n / SAMPLE_ROWS < k ? n : SAMPLE_ROWS * k;
}

size_t
winnow_kmeans_scratch_bytes(int n, int dim, int k)
{
	size_t		sample = sample_size(n, k);

	return (size_t) k * dim * sizeof(double) +
		sample * (2 * sizeof(int32_t) + sizeof(float)) +
		(size_t) k * (sizeof(int32_t) + sizeof(float));
}

static KmeansScratch
cut_scratch(void *scratch, int sampled, int dim, int k)
{
	KmeansScratch s;

	s.sums = (double *) scratch;
	s.sample = (int32_t *) (s.sums + (size_t) k * dim);
	s.cluster = s.sample + sampled;
	s.counts = s.cluster + sampled;
	s.distances = (float *) (s.counts + k);
	s.to_all = s.distances + sampled;
	return s;
}

/* Draw `size` different rows of n, in random order. */
static void
draw_sample(int32_t *sample, int size, int n, uint64_t *random)
{
	int			drawn = 0;

	/* selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S) */
	for (int row = 0; row < n && drawn < size; row++)
		if (winnow_random_unit(random) * (n - row) < size - drawn)
			sample[drawn++] = row;

	for (int i = size - 1; i > 0; i--)
	{
		int			j = winnow_random_below(random, i + 1);
		int32_t		swap = sample[i];

		sample[i] = sample[j];
		sample[j] = swap;
	}
}

/*
 * Choose k seeds from the first rows of the sample: each with a probability
 * proportional to its squared distance from the nearest seed so far.
 */
static void
choose_seeds(const float *rows, int dim, int k, const KmeansScratch *s,
			 int sampled, float *centroids, uint64_t *random, Ticker *ticker)
{
	int			candidates = sampled / SEED_ROWS < k ? sampled : SEED_ROWS * k;
	int			chosen = 0;

	for (int i = 0; i < candidates; i++)
		s->distances[i] = FLT_MAX;

	for (int c = 0; c < k; c++)
	{
		float	   *centroid = centroids + (size_t) c * dim;
		double		total = 0;
		double		draw;

		memcpy(centroid, row_at(rows, s->sample[chosen], dim),
			   (size_t) dim * sizeof(float));
		for (int i = 0; i < candidates; i++)
		{
			float		distance;

			distance = capped(winnow_kernels->l2_squared(row_at(rows, s->sample[i], dim),
														 centroid, dim));
			if (distance < s->distances[i])
				s->distances[i] = distance;
			total += s->distances[i];
			count_work(ticker, dim);
		}

		/* only copies of seeds are left: it does not matter which */
		chosen = c + 1 < candidates ? c + 1 : 0;
		if (total > 0)
		{
			draw = winnow_random_unit(random) * total;
			for (chosen = 0; chosen < candidates - 1; chosen++)
			{
				draw -= s->distances[chosen];
				if (draw < 0)
					break;
			}
		}
	}
}

/* Assign the sampled rows; returns how many changed their cluster. */
static int
assign_sample(const float *rows, int dim, int k, const KmeansScratch *s,
			  int sampled, const float *centroids, Ticker *ticker)
{
	int			changed = 0;

	memset(s->sums, 0, (size_t) k * dim * sizeof(double));
	memset(s->counts, 0, (size_t) k * sizeof(int32_t));
	for (int i = 0; i < sampled; i++)
	{
		const float *row = row_at(rows, s->sample[i], dim);
		int			best;

		winnow_nearest(row, centroids, k, dim, &best, &s->distances[i],
					   s->to_all);
		changed += best != s->cluster[i];
		s->cluster[i] = best;
		s->counts[best]++;
		add_row(s->sums + (size_t) best * dim, row, dim);
		count_work(ticker, (int64_t) k * dim);
	}
	return changed;
}

/*
 * Restart an empty cluster at the sampled row that is farthest from its
 * centroid, and let the rows around it count as near.
 */
static void
restart_cluster(const float *rows, int dim, const KmeansScratch *s,
				int sampled, float *centroid, Ticker *ticker)
{
	int			farthest = 0;

	for (int i = 1; i < sampled; i++)
		if (s->distances[i] > s->distances[farthest])
			farthest = i;
	memcpy(centroid, row_at(rows, s->sample[farthest], dim),
		   (size_t) dim * sizeof(float));
	for (int i = 0; i < sampled; i++)
	{
		float		distance;

		distance = winnow_kernels->l2_squared(row_at(rows, s->sample[i], dim),
											  centroid, dim);
		if (distance < s->distances[i])
			s->distances[i] = distance;
		count_work(ticker, dim);
	}
}

void
winnow_kmeans(const float *rows, int n, int dim, int k, int iterations,
			  uint64_t seed, float *centroids, int32_t *assign, void *scratch,
			  WinnowTick tick, void *arg)
{
	int			sampled = sample_size(n, k);
	KmeansScratch s = cut_scratch(scratch, sampled, dim, k);
	Ticker		ticker = {tick, arg, 0};

	draw_sample(s.sample, sampled, n, &seed);
	choose_seeds(rows, dim, k, &s, sampled, centroids, &seed, &ticker);

	memset(s.cluster, -1, (size_t) sampled * sizeof(int32_t));
	for (int i = 0; i < iterations; i++)
	{
		if (assign_sample(rows, dim, k, &s, sampled, centroids, &ticker) == 0)
			break;
		for (int c = 0; c < k; c++)
		{
			float	   *centroid = centroids + (size_t) c * dim;

			if (s.counts[c] > 0)
				set_mean(centroid, s.sums + (size_t) c * dim, s.counts[c], dim);
			else
				restart_cluster(rows, dim, &s, sampled, centroid, &ticker);
		}
	}

	for (int row = 0; row < n; row++)
	{
		int			best;
		float		distance;

		winnow_nearest(row_at(rows, row, dim), centroids, k, dim, &best,
					   &distance, s.to_all);
		assign[row] = best;
		count_work(&ticker, (int64_t) k * dim);
	}
}

/*
 * The balanced split
 */

/* How much nearer a row is to centroid 0 than to centroid 1; less is nearer. */
typedef struct Leaning
{
	float		difference;
	int32_t		row;
} Leaning;

/*
 * The rows to split.  Outliers, if they are too few for a side, and others that are set apart, go to the nearer
 * side but do not decide where the sides are.
 */
typedef struct SplitRows
{
	const float *rows;
	int			n;
	int			dim;
	double	   *squared;		/* distances from the mean; INFINITY: set apart */
	double		far;			/* beyond it they are outliers; 0: these were not looked for */
} SplitRows;

size_t
winnow_split_scratch_bytes(int n, int dim)
{
	return (3 * (size_t) n + 2 * (size_t) dim) * sizeof(double) + (size_t) n * sizeof(Leaning);
}

static int
compare_leanings(const void *a, const void *b)
{
	const Leaning *x = (const Leaning *) a;
	const Leaning *y = (const Leaning *) b;

	if (x->difference != y->difference)
		return x->difference < y->difference ? -1 : 1;
	return x->row < y->row ? -1 : x->row > y->row;
}

/*
 * Where to cut n sorted leanings: between those nearer to 0 and those nearer
 * to 1, rows in the middle shared out so as to balance.
 */
static int
natural_cut(const Leaning *leanings, int n)
{
	int			nearer_0 = 0;
	int			not_nearer_1;
	int			cut = n / 2;

	while (nearer_0 < n && leanings[nearer_0].difference < 0)
		nearer_0++;
	not_nearer_1 = nearer_0;
	while (not_nearer_1 < n && leanings[not_nearer_1].difference == 0)
		not_nearer_1++;

	if (cut < nearer_0)
		cut = nearer_0;
	if (cut > not_nearer_1)
		cut = not_nearer_1;
	return cut;
}

/* The least that a side of n rows gets */
static int
least_side(int n)
{
	return (n + LEAST_SIDE - 1) / LEAST_SIDE;
}

/* Two seeds: a random row, and one drawn by its squared distance from it. */
static void
choose_pair(const SplitRows *all, uint64_t *random, float *centroids, Leaning *leanings,
			Ticker *ticker)
{
	int			n = all->n;
	int			dim = all->dim;
	const float *first;
	int			chosen = winnow_random_below(random, n);
	int			second;
	double		total = 0;
	double		draw;

	while (all->squared[chosen] > all->far)
		chosen = (chosen + 1) % n;
	first = row_at(all->rows, chosen, dim);
	second = chosen;
	for (int i = 0; i < n; i++)
	{
		leanings[i].difference = all->squared[i] > all->far ? 0 :
			capped(winnow_kernels->l2_squared(first, row_at(all->rows, i, dim), dim));
		total += leanings[i].difference;
		count_work(ticker, dim);
	}
	draw = winnow_random_unit(random) * total;
	for (int i = 0; i < n; i++)
	{
		if (leanings[i].difference > 0)
			second = i;
		draw -= leanings[i].difference;
		if (draw < 0)
			break;
	}
	memcpy(centroids, first, (size_t) dim * sizeof(float));
	memcpy(centroids + dim, row_at(all->rows, second, dim), (size_t) dim * sizeof(float));
}

/*
 * Put each row on a side by the centroids, and let no side be short; returns how many changed sides.
 * natural: where the cut would be without that, in the sorted leanings.
 */
static int
assign_sides(const SplitRows *all, const float *centroids, uint8_t *side, Leaning *leanings,
			 int *natural, Ticker *ticker)
{
	int			n = all->n;
	int			dim = all->dim;
	int			least = least_side(n);
	int			changed = 0;
	int			cut;

	for (int i = 0; i < n; i++)
	{
		float		distances[2];

		winnow_kernels->l2_squared_many(row_at(all->rows, i, dim), centroids, dim,
										2, dim, distances);
		leanings[i].difference = capped(distances[0]) - capped(distances[1]);
		leanings[i].row = i;
		count_work(ticker, 2 * dim);
	}
	qsort(leanings, n, sizeof(Leaning), compare_leanings);
	*natural = cut = natural_cut(leanings, n);
	if (cut < least)
		cut = least;
	if (cut > n - least)
		cut = n - least;
	for (int i = 0; i < n; i++)
	{
		uint8_t		new_side = i >= cut;

		changed += side[leanings[i].row] != new_side;
		side[leanings[i].row] = new_side;
	}
	return changed;
}

/* Make the centroids the means of the sides, but for outliers; a side that has nothing else keeps its own. */
static void
mean_sides(const SplitRows *all, const uint8_t *side, double *sums, float *centroids,
		   Ticker *ticker)
{
	int			dim = all->dim;
	int			counts[2] = {0, 0};

	memset(sums, 0, (size_t) 2 * dim * sizeof(double));
	for (int i = 0; i < all->n; i++)
	{
		count_work(ticker, dim);
		if (all->squared[i] > all->far)
			continue;
		counts[side[i]]++;
		add_row(sums + (size_t) side[i] * dim, row_at(all->rows, i, dim), dim);
	}
	for (int s = 0; s < 2; s++)
		if (counts[s] > 0)
			set_mean(centroids + (size_t) s * dim, sums + (size_t) s * dim,
					 counts[s], dim);
}

/*
 * The side that is short by nature is set apart, so that the other one can be split: to fill
 * it up from there would put rows far from their list's centroid.  Returns whether there
 * is one, and enough is left.
 */
static bool
set_apart(SplitRows *all, const Leaning *leanings, int natural)
{
	bool		first = natural < all->n - natural;
	int			count = first ? natural : all->n - natural;
	int			left = 0;

	if (count == 0 || count >= least_side(all->n))
		return false;
	if (all->far > DBL_MAX)
		all->far = DBL_MAX;
	for (int i = 0; i < count; i++)
		all->squared[leanings[first ? i : all->n - 1 - i].row] = INFINITY;
	for (int i = 0; i < all->n; i++)
		left += all->squared[i] <= all->far;
	return left > all->n / 2;
}

void
winnow_split_two(const float *rows, int n, int dim, uint64_t seed,
				 float *centroids, uint8_t *side, void *scratch,
				 WinnowTick tick, void *arg)
{
	double	   *squared = (double *) scratch;
	double	   *sums = squared + n;	/* of the sides; the mean of all is found in the same place */
	Leaning    *leanings = (Leaning *) (sums + 2 * (size_t) (n + dim));
	SplitRows	all = {rows, n, dim, squared, 0};
	Ticker		ticker = {tick, arg, 0};
	int			natural = 0;

	/* what is large is split again: outliers can wait until it takes no time to find them */
	memset(squared, 0, (size_t) n * sizeof(double));
	if ((int64_t) n * dim <= TICK_FLOATS)
		all.far = winnow_mean(rows, NULL, NULL, n, dim, centroids, squared, sums);
	/* those that can be a side of their own are split off */
	if (winnow_count_beyond(squared, n, all.far) >= least_side(n))
		all.far = INFINITY;
	for (int attempt = 0; attempt < SPLIT_ATTEMPTS; attempt++)
	{
		choose_pair(&all, &seed, centroids, leanings, &ticker);
		memset(side, n == 1 ? 0 : 2, n);	/* neither */
		if (n == 1)
			return;
		for (int i = 0; i < SPLIT_ITERATIONS; i++)
		{
			if (assign_sides(&all, centroids, side, leanings, &natural, &ticker) == 0)
				break;
			mean_sides(&all, side, sums, centroids, &ticker);
		}
		if (!set_apart(&all, leanings, natural))
			break;
	}
}
