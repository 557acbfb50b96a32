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
#define MOST_ROUNDS 8

/*
 * Many outliers together put the mean of all so far from the others that they do not look far from it.  Then
 * most rows are nearer to one of these, by that factor squared; so many rows are tried.
 */
#define NEARER 4.0
#define ROWS_TRIED 8

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

/* The squared distances beyond which there is no more than an eighth, and a quarter, of the weight */
typedef struct Usual
{
	double		squared;
	double		most_squared;
} Usual;

/* The squared distance beyond which there is no more than that weight */
static double
usual_distance(const Distance *sorted, int n, double beyond)
{
	int			usual = n - 1;

	while (usual > 0 && beyond >= sorted[usual].weight)
		beyond -= sorted[usual--].weight;

	/* where most are equal that says nothing of the others */
	while (usual < n - 1 && sorted[usual].squared == 0)
		usual++;
	return sorted[usual].squared;
}

static Usual
find_usual(const double *squared, const double *weights, const double *within, int n,
		   double *scratch)
{
	Distance   *sorted = (Distance *) scratch;
	double		total = 0;

	for (int i = 0; i < n; i++)
	{
		sorted[i].squared = squared[i] + (within != NULL ? within[i] : 0);
		sorted[i].weight = weight_of(weights, i);
		total += sorted[i].weight;
	}
	qsort(sorted, n, sizeof(Distance), compare_distances);
	return (Usual){usual_distance(sorted, n, WINNOW_OUTLIERS * total),
				   usual_distance(sorted, n, WINNOW_MOST_OUTLIERS * total)};
}

/* The squared distance beyond which rows are outliers */
static double
far_of(Usual usual)
{
	return fmin(WINNOW_FAR * usual.squared, WINNOW_VERY_FAR * usual.most_squared);
}

double
winnow_far(const double *squared, const double *weights, const double *within, int n,
		   double *scratch)
{
	return far_of(find_usual(squared, weights, within, n, scratch));
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
 * the others is?  Given what is usual by the mean of all: the other one is share / (1 - share)
 * of its distance away, and by so much the others may be nearer to that.
 */
static bool
surely_none(double farthest, double share, Usual usual)
{
	double		moved = sqrt(farthest) * share / (1 - share);
	double		from_others = sqrt(farthest) / (1 - share);
	double		least = fmax(sqrt(usual.squared) - moved, 0);
	double		most_least = fmax(sqrt(usual.most_squared) - moved, 0);

	return from_others * from_others <= far_of((Usual){least * least, most_least * most_least});
}

/*
 * Is there a row to which most others are much nearer than to the mean, given what is usual from there?
 * squared[] are the distances from it then.  Rows are tried that stand for a part of the weight each.
 */
static bool
find_row_amid(const float *rows, const double *weights, const double *within, int n, int dim,
			  double usual, double total, double *squared)
{
	int			ntried = n < ROWS_TRIED ? n : ROWS_TRIED;
	int			row = 0;
	double		before = 0;		/* weight of the rows up to it */

	for (int t = 0; t < ntried; t++)
	{
		double		beyond = 0;

		while (row < n - 1 && before + weight_of(weights, row) <= total * t / ntried)
			before += weight_of(weights, row++);
		for (int i = 0; i < n && beyond <= WINNOW_MOST_OUTLIERS * total; i++)
		{
			squared[i] = squared_distance(rows + (size_t) i * dim, rows + (size_t) row * dim, dim);
			if (squared[i] + (within != NULL ? within[i] : 0) > usual / NEARER)
				beyond += weight_of(weights, i);
		}
		if (beyond <= WINNOW_MOST_OUTLIERS * total)
			return true;
	}
	return false;
}

int
winnow_count_beyond(const double *squared, int n, double far)
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
	Usual		usual;
	int			farthest = 0;

	memset(squared, 0, sizeof(double) * n);
	mean_within(rows, weights, n, dim, INFINITY, mean, squared, sum);
	for (int i = 0; i < n; i++)
	{
		total += weight_of(weights, i);
		if (squared[i] > squared[farthest])
			farthest = i;
	}
	usual = find_usual(squared, weights, within, n, scratch);
	if (squared[farthest] == 0)
		return INFINITY;
	if (find_row_amid(rows, weights, within, n, dim, usual.most_squared, total, scratch))
	{
		memcpy(squared, scratch, sizeof(double) * n);
		far = winnow_far(squared, weights, within, n, scratch);
	}
	else if (surely_none(squared[farthest], weight_of(weights, farthest) / total, usual))
		return INFINITY;
	else
	{
		/* without the farthest, then without all that are outliers from there, and so on */
		squared[farthest] = INFINITY;
		mean_within(rows, weights, n, dim, DBL_MAX, mean, squared, sum);
		far = winnow_far(squared, weights, within, n, scratch);
	}
	for (int round = 0; round < MOST_ROUNDS; round++)
	{
		int			count = winnow_count_beyond(squared, n, far);
		double		before = far;

		mean_within(rows, weights, n, dim, far, mean, squared, sum);
		far = winnow_far(squared, weights, within, n, scratch);

		/* those that come and go with the mean are none */
		if (round >= MOST_ROUNDS / 2)
			far = fmax(far, before);
		if (winnow_count_beyond(squared, n, far) == count)
			return far;
	}

	memset(squared, 0, sizeof(double) * n);
	mean_within(rows, weights, n, dim, INFINITY, mean, squared, sum);
	return INFINITY;
}
