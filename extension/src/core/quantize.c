/*
 * quantize.c
 *		One bit per dimension: RaBitQ codes, and score estimates from them.
 *
 * Notation as in quantize.h: D dimensions; x = c + r o a row, c the centroid,
 * |o| = 1; obar the unit vector of the signs of o, and t = <obar, o>.  Let v be
 * what is quantised of the query, of length g:
 *
 *		L2:	 v = query - c		 score = |x - query|^2 = r^2 + g^2 - 2 r <o, v>
 *		IP:	 v = query			 score = -<x, query> = -<c, query> - r <o, v>
 *
 * Either way what is missing is <o, v>, and a = <obar, v> is at hand.
 *
 * The estimate.	Write o = t obar + sqrt(1 - t^2) e, with e a unit vector
 * orthogonal to obar.  Over random rotations e is symmetric around obar, given
 * t, so that a / t estimates <o, v> without bias (theorem 3.2 of the paper):
 *
 *		<o, v> - a / t  has mean 0 and is about g sqrt((1 - t^2) / t^2) / sqrt(D - 1)
 *
 * The rounding of the query to four bits adds an error to a that behaves like
 * D independent ones of standard deviation step / sqrt(12), each weighted by
 * 1 / sqrt(D).  The paper drops it as small; it matters where t is near 1, as
 * it may be in few dimensions.  So
 *
 *		<o, v> <= a / t + epsilon sqrt(g^2 (1 - t^2) / (D - 1) + step^2 / 12) / t
 *
 * The bound that is never wrong.	Let t = cos(theta) and a = g cos(phi), both
 * angles in [0, pi]: theta from o to obar and phi from obar to v.  The angle
 * from o to v is at least |theta - phi|, hence
 *
 *		<o, v> <= g cos(theta - phi) = t a + sqrt(1 - t^2) sqrt(g^2 - a^2)
 *
 * t and a are known up to rounding, as intervals; where the intervals of theta
 * and phi meet, the bound is g, which is the triangle inequality; elsewhere it
 * is taken at the two ends that face each other.  The rounding of the query
 * moves a by at most (step / 2) D / sqrt(D).
 *
 * Float errors.  Estimates are computed in double precision (in float where
 * the bound is a matter of chance anyway) from r, t and the sums behind g, which carry the error of float sums (WINNOW_SUM_ERROR), and
 * the vectors carry that of the rotation (WINNOW_ROTATION_ERROR).  Their effect
 * on a score is a small multiple of the squared sizes involved, and is taken
 * off every lower bound: see winnow_score_slack.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "quantize.h"
#include "rotate.h"

/* Rows per call of the code_differences kernel; sizes two arrays on the stack. */
#define CHUNK 256

/*
 * Lengths below this are lost in the denormal numbers of float; times a
 * relative error, it is an absolute one that covers them.
 */
#define TINY_LENGTH 1e-30

/*
 * The length of v, given a float sum of its squares.  The sum is only used
 * within the range where squares neither overflow nor lose digits.
 */
static double
length(const float *v, int dim, float squares)
{
	double		sum = 0;

	if (WINNOW_SQUARES_HOLD(squares))
		return sqrt(squares);
	for (int i = 0; i < dim; i++)
		sum += (double) v[i] * v[i];
	return sqrt(sum);
}

/* A double as the nearest float, infinite beyond its range and for NaN. */
float
winnow_to_float(double x)
{
	if (!(x <= FLT_MAX))
		return INFINITY;
	if (x < -FLT_MAX)
		return -INFINITY;
	return (float) x;
}

/*
 * |x - c| and the sum of |x - c|, where floats would overflow or lose digits.
 */
void
winnow_residual_sums(const float *x, const float *centroid, int dim, double *norm,
					 double *absolute)
{
	double		squares = 0;

	*absolute = 0;
	for (int i = 0; i < dim; i++)
	{
		double		d = (double) x[i] - centroid[i];

		squares += d * d;
		*absolute += fabs(d);
	}
	*norm = sqrt(squares);
}

void
winnow_encode(const float *x, const float *centroid, int dim, uint8_t *code)
{
	int			nwords = winnow_code_words(dim);
	float		squares = winnow_kernels->l2_squared(x, centroid, dim);
	double		norm = sqrt(squares);
	double		absolute;
	float		head[2];
	uint64_t	bits[4];

	if (WINNOW_SQUARES_HOLD(squares))
		absolute = winnow_kernels->l1(x, centroid, dim);
	else
		winnow_residual_sums(x, centroid, dim, &norm, &absolute);

	head[0] = norm <= WINNOW_MOST_KNOWN ? (float) norm : INFINITY;	/* also NaN */
	head[1] = 1;
	if (head[0] > 0 && head[0] <= FLT_MAX)
	{
		double		align = absolute / (norm * sqrt(dim));

		head[1] = align < 1 ? (float) align : 1;
	}
	memcpy(code, head, sizeof(head));

	/* the code may be unaligned, so its bits pass through an aligned buffer */
	for (int w = 0; w < nwords; w += 4)
	{
		int			left = dim - w * 64;
		int			words = nwords - w < 4 ? nwords - w : 4;

		winnow_kernels->greater_bits(x + (size_t) w * 64,
									 centroid + (size_t) w * 64,
									 left < 256 ? left : 256, bits, words);
		memcpy(code + WINNOW_CODE_HEAD + (size_t) w * sizeof(uint64_t), bits,
			   words * sizeof(uint64_t));
	}
}

size_t
winnow_query_bytes(int dim)
{
	return sizeof(WinnowQueryCode) +
		(size_t) winnow_code_words(dim) * 4 * sizeof(uint64_t) +
		(size_t) dim * sizeof(float);
}

/*
 * Quantise v, whose elements lie in [-most, most], to (u - 7.5) steps with u from 0
 * to 15, and set the terms of <obar, v>.  As u - 7.5 is half the sum of 2^p times the
 * signs that the bits p of u stand for, and obar is made of signs too,
 *
 *		<obar, v> = step (7.5 D - differences) / sqrt(D)
 */
static void
quantize_query(WinnowQueryCode *q, const float *v, float most)
{
	double		root = sqrt(q->dim);
	double		step = 2.0 * most / 15;
	bool		tiny = step <= FLT_MIN;

	q->low = -most;
	q->inv_step = tiny ? 0 : (float) (1 / step);
	q->step = step;
	winnow_kernels->quantize_planes(v, q->dim, q->low, q->inv_step, q->planes, q->nwords);
	q->factor = tiny ? 0 : -step / root;
	q->offset = tiny ? 0 : 7.5 * step * root;

	/*
	 * Each element is off by half a step at most: 0.5001, since the division
	 * by the step rounds too; by what it is, where denormal numbers are taken for 0.
	 */
	q->rounding = root * (tiny ? most : 0.5001 * step) + q->slack * q->span;
	q->rounding_spread = tiny ? most : step * WINNOW_ROUNDING_SPREAD;
}

/* Set what depends on the centroid alone, for inner products. */
static void
centre_inner_product(WinnowQueryCode *q, const float *query,
					 const float *centroid)
{
	float		product;
	float		query_squares;
	float		centroid_squares;

	winnow_kernels->cosine_terms(query, centroid, q->dim, &product,
								 &query_squares, &centroid_squares);
	q->span = length(query, q->dim, query_squares);
	q->centroid_norm = length(centroid, q->dim, centroid_squares);
	if (q->span * q->centroid_norm < 1e37 && q->span * q->centroid_norm > 1e-25)
		q->centroid_score = -(double) product;
	else
	{
		double		sum = 0;

		for (int i = 0; i < q->dim; i++)
			sum += (double) query[i] * centroid[i];
		q->centroid_score = -sum;
	}
}

void
winnow_query_prepare(WinnowQueryCode *q, WinnowMetric metric,
					 const float *query, const float *centroid, int dim)
{
	float	   *scratch;
	float		low = INFINITY;
	float		high = -INFINITY;
	float		squares;
	float		most;

	q->metric = metric;
	q->dim = dim;
	q->nwords = winnow_code_words(dim);
	q->slack = 4 * (WINNOW_SUM_ERROR(dim) +
					WINNOW_ROTATION_ERROR(winnow_rotation_block(dim)));
	scratch = (float *) winnow_query_vector(q);

	if (metric == WINNOW_METRIC_IP)
	{
		/* the residual to zero: a copy, and the range of the elements */
		memset(scratch, 0, (size_t) dim * sizeof(float));
		winnow_kernels->residual(query, scratch, dim, scratch, &low, &high);
		centre_inner_product(q, query, centroid);
	}
	else
	{
		squares = winnow_kernels->residual(query, centroid, dim, scratch,
										   &low, &high);
		q->span = length(scratch, dim, squares);
		q->centroid_score = q->span * q->span;
		q->centroid_norm = length(centroid, dim,
								  winnow_kernels->inner_product(centroid, centroid, dim));
	}

	/* beyond the range of float nothing is known; this is also true of NaN */
	most = high > -low ? high : -low;
	if (!(q->span <= FLT_MAX && q->centroid_norm <= WINNOW_MOST_KNOWN / 2 && most <= WINNOW_MOST_KNOWN))
	{
		q->span = INFINITY;
		return;
	}
	quantize_query(q, scratch, most);
}

/*
 * An upper bound of <o, v> / g that is never wrong: cos(theta - phi) for
 * cos(theta) in t (1 -+ align_error) and cos(phi) in [phi_low, phi_high].
 */
static double
certain_cosine(double t, double align_error, double phi_low, double phi_high)
{
	double		near;
	double		far;

	if (phi_high < t * (1 - align_error))
	{
		near = t * (1 - align_error);
		far = phi_high < -1 ? -1 : phi_high;
	}
	else if (phi_low > t * (1 + align_error))
	{
		near = t * (1 + align_error);
		if (near > 1)
			near = 1;
		far = phi_low > 1 ? 1 : phi_low;
	}
	else
		return 1;				/* the angles may be equal */

	return near * far + sqrt((1 - near * near) * (1 - far * far));
}

/*
 * How far float rounding may put a score above the true one.
 *
 * With k the relative error of lengths and sums: the stored x is off by
 * k |x| <= k (|c| + r), the query by k |query|, and the terms of the score are
 * off by k times their sizes.  For L2 that moves the distance d <= r + g by
 * k (2 |c| + r + g) and d^2 by twice d times that, next to the error of the
 * terms, k (r + g)^2.  For IP it moves the score by a few k |query| |x|.  The
 * factors are in slack.  TINY_LENGTH and FLT_MIN are for denormal numbers.
 * The sums of the operators are off by as much again: search.c relies on it that slack is enough for these too.
 */
double
winnow_score_slack(const WinnowQueryCode *q, double r)
{
	double		size = q->centroid_norm + r + TINY_LENGTH;

	if (q->metric == WINNOW_METRIC_IP)
		return q->slack * (q->span + TINY_LENGTH) * size + FLT_MIN;
	return q->slack * (r + q->span + TINY_LENGTH) * (2 * size + q->span) + FLT_MIN;
}

/* Estimate and lower bound of one row from its code's norm, align and a. */
static void
estimate_row(const WinnowQueryCode *q, double epsilon, double r, double t,
			 double a, float *estimate, float *lower)
{
	bool		inner = q->metric == WINNOW_METRIC_IP;
	double		g = q->span;
	double		most;			/* upper bound of <o, v> */
	double		score;
	double		least;

	/* unknown, or a broken record; the negation also catches NaN */
	if (!(r >= 0 && r <= FLT_MAX && t > 0 && t <= 1))
	{
		*estimate = winnow_to_float(q->centroid_score);
		*lower = inner ? -INFINITY : 0;
		return;
	}

	if (isinf(epsilon))
	{
		most = 0;
		if (g > 0)
			most = g * certain_cosine(t, q->slack, (a - q->rounding) / g,
									  (a + q->rounding) / g);
	}
	else
	{
		/* in one dimension t is 1, and nothing is left to estimate */
		double		spread = g * g * (1 - t * t) / (q->dim > 1 ? q->dim - 1 : 1);

		most = (a + epsilon * sqrt(spread + q->rounding_spread * q->rounding_spread)) / t;
		if (most > g)
			most = g;
	}

	if (inner)
	{
		score = q->centroid_score - r * a / t;
		least = q->centroid_score - r * most;
	}
	else
	{
		score = r * r + g * g - 2 * r * a / t;
		least = (r - g) * (r - g) + 2 * r * (g - most);
	}
	least -= winnow_score_slack(q, r);
	if (!inner && least < 0)
		least = 0;
	*estimate = winnow_to_float(score);
	*lower = least > FLT_MAX ? FLT_MAX : winnow_to_float(least);
}

/* What estimate_row computes for a finite epsilon, as terms for the kernel */
static void
fill_terms(const WinnowQueryCode *q, double epsilon, WinnowBoundTerms *terms)
{
	bool		inner = q->metric == WINNOW_METRIC_IP;
	double		c = q->centroid_norm + TINY_LENGTH;
	double		g = q->span + TINY_LENGTH;

	terms->factor = (float) q->factor;
	terms->offset = (float) q->offset;
	terms->span = (float) q->span;
	terms->epsilon = (float) epsilon;
	terms->spread = (float) (q->span * q->span / (q->dim > 1 ? q->dim - 1 : 1));
	terms->rounding = (float) (q->rounding_spread * q->rounding_spread);
	terms->square = inner ? 0 : 1;
	terms->base = (float) (inner ? q->centroid_score : q->span * q->span);
	terms->twice = inner ? -1 : -2;
	terms->floor = inner ? -INFINITY : 0;
	terms->unknown = winnow_to_float(q->centroid_score);

	/* winnow_score_slack, by powers of r */
	if (inner)
	{
		terms->slack0 = (float) (q->slack * g * c + FLT_MIN);
		terms->slack1 = (float) (q->slack * g);
		terms->slack2 = 0;
	}
	else
	{
		terms->slack0 = (float) (q->slack * g * (2 * c + q->span) + FLT_MIN);
		terms->slack1 = (float) (q->slack * (2 * g + 2 * c + q->span));
		terms->slack2 = (float) (q->slack * 2);
	}
}

void
winnow_estimate(const WinnowQueryCode *q, const uint8_t *codes, size_t stride,
				const uint16_t *rows, int nrows, float epsilon,
				float *estimate, float *lower)
{
	uint32_t	differences[CHUNK];
	float		heads[2 * CHUNK];
	WinnowBoundTerms terms;
	bool		approximate = !isinf(epsilon) && q->span <= WINNOW_LARGE_LENGTH &&
		q->centroid_norm <= WINNOW_LARGE_LENGTH;

	if (!(q->span <= FLT_MAX))
	{
		for (int i = 0; i < nrows; i++)
		{
			estimate[i] = winnow_to_float(q->centroid_score);
			lower[i] = q->metric == WINNOW_METRIC_IP ? -INFINITY : 0;
		}
		return;
	}

	if (approximate)
		fill_terms(q, epsilon, &terms);
	for (int start = 0; start < nrows; start += CHUNK)
	{
		int			count = nrows - start < CHUNK ? nrows - start : CHUNK;

		winnow_kernels->code_differences(codes + WINNOW_CODE_HEAD, stride, rows + start, count,
										 q->planes, q->nwords, differences);
		for (int i = 0; i < count; i++)
			memcpy(&heads[2 * i], codes + (size_t) rows[start + i] * stride, WINNOW_CODE_HEAD);
		if (approximate && winnow_kernels->code_bounds(differences, heads, count, &terms,
													   estimate + start, lower + start))
			continue;
		for (int i = 0; i < count; i++)
			estimate_row(q, epsilon, heads[2 * i], heads[2 * i + 1],
						 q->factor * differences[i] + q->offset,
						 &estimate[start + i], &lower[start + i]);
	}
}

void
winnow_estimate_errors(const WinnowQueryCode *q, const uint8_t *codes, size_t stride,
					   const uint16_t *rows, int nrows, float *error, float *norm)
{
	float		spread = (float) (q->span * q->span / (q->dim > 1 ? q->dim - 1 : 1));
	float		rounding = (float) (q->rounding_spread * q->rounding_spread);
	float		twice = q->metric == WINNOW_METRIC_IP ? 1 : 2;

	for (int i = 0; i < nrows; i++)
	{
		const uint8_t *code = codes + (size_t) rows[i] * stride;
		float		align;

		memcpy(&norm[i], code, sizeof(float));
		memcpy(&align, code + sizeof(float), sizeof(float));

		/* as in estimate_row; the negation also catches NaN, of the query's span too */
		error[i] = twice * norm[i] * sqrtf(spread * (1 - align * align) + rounding) / align;
		if (!(error[i] >= 0 && error[i] <= FLT_MAX))
			error[i] = 0;
	}
}
