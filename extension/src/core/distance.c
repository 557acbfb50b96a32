/*
 * distance.c
 *		Distances of two vectors; see distance.h.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "../kernels/kernels.h"
#include "distance.h"

/* Room for a sum of as many equal terms as a vector has dimensions at most */
#define SAFE_SQUARE_MIN 1e-30f

static bool
square_is_safe(float square)
{
	return square >= SAFE_SQUARE_MIN && square <= FLT_MAX;
}

static double
wide_l2_squared(const float *a, const float *b, int dim)
{
	double		sum = 0;

	for (int i = 0; i < dim; i++)
	{
		double		difference = (double) a[i] - (double) b[i];

		sum += difference * difference;
	}
	return sum;
}

double
winnow_wide_inner_product(const float *a, const float *b, int dim)
{
	/* four sums, since each addition waits for the one before it */
	double		sums[4] = {0, 0, 0, 0};
	int			i = 0;

	for (; i + 4 <= dim; i += 4)
		for (int j = 0; j < 4; j++)
			sums[j] += (double) a[i + j] * (double) b[i + j];
	for (; i < dim; i++)
		sums[0] += (double) a[i] * (double) b[i];
	return sums[0] + sums[1] + sums[2] + sums[3];
}

static double
wide_l1(const float *a, const float *b, int dim)
{
	double		sum = 0;

	for (int i = 0; i < dim; i++)
		sum += fabs((double) a[i] - (double) b[i]);
	return sum;
}

static double
cosine_distance(const float *a, const float *b, int dim)
{
	float		terms[3];
	double		ab;
	double		aa;
	double		bb;
	double		similarity;

	winnow_kernels->cosine_terms(a, b, dim, &terms[0], &terms[1], &terms[2]);
	if (square_is_safe(terms[1]) && square_is_safe(terms[2]))
	{
		ab = terms[0];
		aa = terms[1];
		bb = terms[2];
	}
	else
	{
		ab = winnow_wide_inner_product(a, b, dim);
		aa = winnow_wide_inner_product(a, a, dim);
		bb = winnow_wide_inner_product(b, b, dim);
		if (aa == 0 || bb == 0)
			return NAN;
	}
	similarity = ab / sqrt(aa * bb);
	if (similarity > 1)
		similarity = 1;
	if (similarity < -1)
		similarity = -1;
	return 1 - similarity;
}

double
winnow_distance(WinnowDistance kind, const float *a, const float *b, int dim)
{
	float		sum;

	switch (kind)
	{
		case WINNOW_DISTANCE_L2:
			sum = winnow_kernels->l2_squared(a, b, dim);
			return sqrt(square_is_safe(sum) ? sum : wide_l2_squared(a, b, dim));
		case WINNOW_DISTANCE_IP:
			sum = winnow_kernels->inner_product(a, b, dim);
			/* to subtract from zero, other than to negate, never gives -0 */
			return 0 - (isfinite(sum) ? sum : winnow_wide_inner_product(a, b, dim));
		case WINNOW_DISTANCE_L1:
			sum = winnow_kernels->l1(a, b, dim);
			return isfinite(sum) ? sum : wide_l1(a, b, dim);
		case WINNOW_DISTANCE_COSINE:
			break;
	}
	return cosine_distance(a, b, dim);
}
