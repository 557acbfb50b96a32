/*
 * mean.c
 *		Means that a few rows cannot drag away; see mean.h.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "mean.h"

/* How often outliers are looked for without those that were found */
#define MOST_ROUNDS 4

typedef struct Distance
{
	double		squared;
	double		weight;
} Distance;

static int
compare_distances(const void *a, const void *b)
{
	double		x = ((const Distance *) a)->squared;
	double		y = ((const Distance *) b)->squared;

	return x < y ? -1 : x > y;
}

static double
weight_of(const double *weights, int i)
{
	return weights != NULL ? weights[i] : 1;
}

double
winnow_far(const double *squared, const double *weights, const double *within, int n,
		   double *scratch)
{
	Distance   *sorted = (Distance *) scratch;
	double		beyond = 0;
	int			usual = n - 1;

	for (int i = 0; i < n; i++)
	{
		sorted[i].squared = squared[i] + (within != NULL ? within[i] : 0);
		sorted[i].weight = weight_of(weights, i);
		beyond += WINNOW_OUTLIERS * sorted[i].weight;
	}
	qsort(sorted, n, sizeof(Distance), compare_distances);

	while (usual > 0 && beyond >= sorted[usual].weight)
		beyond -= sorted[usual--].weight;

	/* where most are equal that says nothing of the others */
	while (usual < n - 1 && sorted[usual].squared == 0)
		usual++;
	return WINNOW_FAR * sorted[usual].squared;
}

static double
squared_distance(const float *a, const float *b, int dim)
{
	double		sum = winnow_kernels->l2_squared(a, b, dim);

	if (sum <= FLT_MAX)
		return sum;
	sum = 0;
	for (int i = 0; i < dim; i++)
	{
		double		difference = (double) a[i] - b[i];

		sum += difference * difference;
	}
	return sum;
}

/* The mean of the rows for which squared[i] <= far, of which there is one, and all rows' distances from it */
static void
mean_within(const float *rows, const double *weights, int n, int dim, double far, float *mean,
			double *squared, double *sum)
{
	double		total = 0;

	memset(sum, 0, sizeof(double) * dim);
	for (int i = 0; i < n; i++)
	{
		const float *row = rows + (size_t) i * dim;
		double		weight = weight_of(weights, i);

		if (squared[i] > far)
			continue;
		for (int d = 0; d < dim; d++)
			sum[d] += weight * row[d];
		total += weight;
	}
	for (int d = 0; d < dim; d++)
		mean[d] = (float) (sum[d] / total);
	for (int i = 0; i < n; i++)
		squared[i] = squared_distance(rows + (size_t) i * dim, mean, dim);
}

/*
 * Is the farthest row, with that share of the weight, no outlier whatever the mean of
 * the others is?  Given the threshold by the mean of all: the other one is share / (1 - share)
 * of its distance away, and by so much the others may be nearer to that.
 */
static bool
surely_none(double farthest, double share, double far)
{
	double		usual = sqrt(far / WINNOW_FAR) - sqrt(farthest) * share / (1 - share);
	double		from_others = sqrt(farthest) / (1 - share);

	return usual > 0 && from_others * from_others <= WINNOW_FAR * usual * usual;
}

static int
count_beyond(const double *squared, int n, double far)
{
	int			count = 0;

	for (int i = 0; i < n; i++)
		count += squared[i] > far;
	return count;
}

double
winnow_mean(const float *rows, const double *weights, const double *within, int n, int dim,
			float *mean, double *squared, double *scratch)
{
	double	   *sum = scratch + 2 * (size_t) n;
	double		total = 0;
	double		far;
	int			farthest = 0;

	memset(squared, 0, sizeof(double) * n);
	mean_within(rows, weights, n, dim, INFINITY, mean, squared, sum);
	for (int i = 0; i < n; i++)
	{
		total += weight_of(weights, i);
		if (squared[i] > squared[farthest])
			farthest = i;
	}
	far = winnow_far(squared, weights, within, n, scratch);
	if (squared[farthest] == 0 ||
		surely_none(squared[farthest], weight_of(weights, farthest) / total, far))
		return INFINITY;

	/* without the farthest, then without all that are outliers from there, and so on */
	squared[farthest] = INFINITY;
	mean_within(rows, weights, n, dim, DBL_MAX, mean, squared, sum);
	far = winnow_far(squared, weights, within, n, scratch);
	if (!(squared[farthest] > far))
	{
		memset(squared, 0, sizeof(double) * n);
		mean_within(rows, weights, n, dim, INFINITY, mean, squared, sum);
		return INFINITY;
	}
	for (int round = 0; round < MOST_ROUNDS; round++)
	{
		int			count = count_beyond(squared, n, far);

		mean_within(rows, weights, n, dim, far, mean, squared, sum);
		far = winnow_far(squared, weights, within, n, scratch);
		if (count_beyond(squared, n, far) <= count)
			break;
	}
	return far;
}
