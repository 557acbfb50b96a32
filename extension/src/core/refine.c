/*
 * refine.c
 *		More bits per dimension: refinement codes, and narrower bounds from them.
 *
 * Notation as in quantize.c, but with the residual as it is: z = x - c of length
 * r, and z = s y + e with e the rest, of length h.  The scale s = r^2 / <z, y> makes e
 * orthogonal to z, not to y:  over random rotations y has no preferred direction beside
 * z, so that this, as a / t of a 1-bit code, makes s <y, v> an estimate of <z, v>
 * without bias.  (s = <z, y> / |y|^2 would leave less of z, but is too small for rows
 * that lie the query's way, which are those that matter.)
 *
 *		<z, v> = s <y, v> + <e, v>
 *
 *		<e, v> has mean 0 and is about h g / sqrt(D - 1), and h g at most.
 *
 * The rounding of v adds |s y| = sqrt(r^2 + h^2) times that of an element, which is 15 times
 * as fine as that of the 1-bit codes' query.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "refine.h"

/*
 * The step that rounds a normal variable of variance one to 2^B values with the
 * least mean squared error (J. Max, "Quantizing for minimum distortion", IRE
 * Transactions on Information Theory 6, 1960, for even steps).
 */
static const double best_step[WINNOW_MAX_REFINEMENT_BITS + 1] = {
	0, 0, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308};

/* The level that an element is rounded to */
static inline int
level_of(float z, float inv_step, int nlevels)
{
	float		level = z * inv_step + (float) (nlevels / 2);

	if (!(level > 0))
		return 0;
	return level < (float) (nlevels - 1) ? (int) level : nlevels - 1;
}

/* <z, y> and |y|^2 for the levels that a step gives */
static void
try_step(const float *x, const float *centroid, int dim, float step, int nlevels,
		 double *product, double *squares)
{
	float		inv_step = 1 / step;
	float		middle = (float) (nlevels - 1) / 2;
	double		zy = 0;
	double		yy = 0;

	/* float sums of a few, doubles of those */
	for (int start = 0; start < dim; start += 64)
	{
		int			end = start + 64 < dim ? start + 64 : dim;
		float		zy_part = 0;
		float		yy_part = 0;

		for (int i = start; i < end; i++)
		{
			float		z = x[i] - centroid[i];
			float		y = (float) level_of(z, inv_step, nlevels) - middle;

			zy_part += z * y;
			yy_part += y * y;
		}
		zy += zy_part;
		yy += yy_part;
	}
	*product = zy;
	*squares = yy;
}

/* |z - scale y| */
static double
measure_rest(const float *x, const float *centroid, int dim, float step, int nlevels,
			 float scale)
{
	float		inv_step = 1 / step;
	float		middle = (float) (nlevels - 1) / 2;
	double		squares = 0;

	for (int start = 0; start < dim; start += 64)
	{
		int			end = start + 64 < dim ? start + 64 : dim;
		float		part = 0;

		for (int i = start; i < end; i++)
		{
			float		z = x[i] - centroid[i];
			float		e = z - scale * ((float) level_of(z, inv_step, nlevels) - middle);

			part += e * e;
		}
		squares += part;
	}
	return sqrt(squares);
}

/* The record's planes */
static void
write_planes(const float *x, const float *centroid, int dim, int bits, float step,
			 uint8_t *to)
{
	int			nwords = winnow_code_words(dim);
	float		inv_step = 1 / step;

	for (int w = 0; w < nwords; w++)
	{
		int			n = dim - w * 64 < 64 ? dim - w * 64 : 64;
		uint64_t	planes[WINNOW_MAX_REFINEMENT_BITS] = {0};

		for (int i = 0; i < n; i++)
		{
			uint64_t	u = (uint64_t) level_of(x[w * 64 + i] - centroid[w * 64 + i],
												inv_step, 1 << bits);

			for (int p = 0; p < bits; p++)
				planes[p] |= ((u >> p) & 1) << i;
		}
		for (int p = 0; p < bits; p++)
			memcpy(to + ((size_t) p * nwords + w) * sizeof(uint64_t), &planes[p],
				   sizeof(uint64_t));
	}
}

void
winnow_refinement_encode(const float *x, const float *centroid, int dim, int bits,
						 uint8_t *record)
{
	float		squares = winnow_kernels->l2_squared(x, centroid, dim);
	float		largest = 0;
	double		r = sqrt(squares);
	double		best = 0;
	float		best_of = 0;
	float		head[3] = {0, 0, 0};

	memset(record, 0, winnow_refinement_bytes(dim, bits));
	if (WINNOW_SQUARES_HOLD(squares))
	{
		float		steps[2];

		for (int i = 0; i < dim; i++)
		{
			float		z = fabsf(x[i] - centroid[i]);

			largest = z > largest ? z : largest;
		}
		/* of normal variables; and one that reaches the largest, for few dimensions */
		steps[0] = (float) (best_step[bits] * r / sqrt(dim));
		steps[1] = largest * 2 / (float) (1 << bits);
		for (int i = 0; i < 2; i++)
		{
			double		zy;
			double		yy;

			try_step(x, centroid, dim, steps[i], 1 << bits, &zy, &yy);
			if (zy > 0 && zy * zy / yy > best)
			{
				best = zy * zy / yy;
				best_of = steps[i];
				head[1] = (float) (squares / zy);
			}
		}
		head[0] = (float) r;
		head[2] = head[0];
		if (best_of > 0)
		{
			/* more than it is, by what floats may be off */
			head[2] = (float) (measure_rest(x, centroid, dim, best_of, 1 << bits, head[1]) * 1.0001 +
							   r * 1e-6);
			write_planes(x, centroid, dim, bits, best_of, record + WINNOW_REFINEMENT_HEAD);
		}
	}
	else
	{
		double		absolute;

		/* the length is all that is known, if that */
		winnow_residual_sums(x, centroid, dim, &r, &absolute);
		head[0] = r <= WINNOW_MOST_KNOWN ? (float) r : INFINITY;	/* also NaN */
		head[2] = head[0];
	}
	memcpy(record, head, sizeof(head));
}

double
winnow_refinement_rest(const float *x, const float *centroid, int dim, int bits,
					   const uint8_t *record)
{
	int			nwords = winnow_code_words(dim);
	uint64_t	planes[WINNOW_MAX_REFINEMENT_BITS];
	float		scale;
	double		squares = 0;

	memcpy(&scale, record + sizeof(float), sizeof(scale));
	for (int i = 0; i < dim; i++)
	{
		int			u = 0;
		double		e;

		for (int p = 0; p < bits && i % 64 == 0; p++)
			memcpy(&planes[p],
				   record + WINNOW_REFINEMENT_HEAD + ((size_t) p * nwords + i / 64) * sizeof(uint64_t),
				   sizeof(uint64_t));
		for (int p = 0; p < bits; p++)
			u |= (int) ((planes[p] >> (i % 64)) & 1) << p;
		e = (double) x[i] - centroid[i] - scale * (u - ((1 << bits) - 1) * 0.5);
		squares += e * e;
	}
	return sqrt(squares);
}

size_t
winnow_refinement_query_bytes(int dim)
{
	return sizeof(WinnowRefinementQuery) +
		(size_t) winnow_code_words(dim) * 4 * sizeof(uint64_t) +
		(size_t) dim * sizeof(float);
}

void
winnow_refinement_prepare(WinnowRefinementQuery *query, const WinnowQueryCode *coarse)
{
	int			dim = coarse->dim;
	const float *v = winnow_query_vector(coarse);
	float	   *left = (float *) (query->planes + (size_t) 4 * coarse->nwords);
	float		low = coarse->low;
	float		inv_step = coarse->inv_step;
	float		step = (float) coarse->step;

	query->coarse = coarse;
	query->usable = coarse->span <= FLT_MAX && inv_step > 0;
	if (!query->usable)
		return;

	/*
	 * What the kernel quantize_planes made of v, to the last bit, and what is
	 * left of v; in two loops, so that no compiler takes two operations for
	 * one.
	 */
	for (int i = 0; i < dim; i++)
		left[i] = (v[i] - low) * inv_step;
	for (int i = 0; i < dim; i++)
	{
		float		u = left[i] > 0 ? left[i] : 0;

		u = u < 15 ? u : 15;
		/* rounds to even */
		u = (u + 12582912.0f) - 12582912.0f;
		left[i] = v[i] - low - step * u;
	}
	query->step = coarse->step / 15;
	winnow_kernels->quantize_planes(left, dim, -0.5f * step, (float) (1 / query->step), query->planes,
									coarse->nwords);
}

/* <y, v>, with v as it was rounded; y is half the sum of 2^p times the signs in plane p */
static double
product(const WinnowRefinementQuery *query, const uint8_t *planes, int bits)
{
	static const uint16_t rows[WINNOW_MAX_REFINEMENT_BITS] = {0, 1, 2, 3, 4, 5, 6, 7};
	const WinnowQueryCode *coarse = query->coarse;
	size_t		stride = (size_t) coarse->nwords * sizeof(uint64_t);
	uint32_t	coarse_differences[WINNOW_MAX_REFINEMENT_BITS];
	uint32_t	differences[WINNOW_MAX_REFINEMENT_BITS];
	double		middle = 7.5 * coarse->dim;
	double		sum = 0;

	winnow_kernels->code_differences(planes, stride, rows, bits, coarse->planes, coarse->nwords,
									 coarse_differences);
	winnow_kernels->code_differences(planes, stride, rows, bits, query->planes, coarse->nwords,
									 differences);
	for (int p = 0; p < bits; p++)
		sum += (double) (1 << p) * (coarse->step * (middle - coarse_differences[p]) +
									query->step * (middle - differences[p]));
	return sum / 2;
}

float
winnow_refine(const WinnowRefinementQuery *query, const uint8_t *record, int bits,
			  float epsilon, float *estimate)
{
	const WinnowQueryCode *coarse = query->coarse;
	bool		inner = coarse->metric == WINNOW_METRIC_IP;
	double		g = coarse->span;
	float		head[3];
	double		r;
	double		length;			/* |s y| */
	double		known;
	double		most;			/* upper bound of <z, v> */
	double		least;

	memcpy(head, record, sizeof(head));
	r = head[0];
	/* nothing is known, or the record is broken; the negation also catches NaN */
	if (!query->usable || !(r >= 0 && r <= FLT_MAX && head[1] >= 0 && head[1] <= FLT_MAX &&
							head[2] >= 0 && head[2] <= FLT_MAX))
	{
		if (estimate != NULL)
			*estimate = winnow_to_float(coarse->centroid_score);
		return inner ? -INFINITY : 0;
	}

	length = sqrt(r * r + (double) head[2] * head[2]);
	known = head[1] * product(query, record + WINNOW_REFINEMENT_HEAD, bits);
	if (isinf(epsilon))
		most = known + head[2] * g +
			length * (0.5001 * query->step * sqrt(coarse->dim) + coarse->slack * g);
	else
	{
		double		rest = head[2] * g;
		double		rounding = length * query->step * WINNOW_ROUNDING_SPREAD;

		most = known + epsilon * sqrt(rest * rest / (coarse->dim > 1 ? coarse->dim - 1 : 1) +
									  rounding * rounding);
	}
	if (most > r * g)
		most = r * g;
	least = inner ? coarse->centroid_score - most :
		(r - g) * (r - g) + 2 * (r * g - most);
	least -= winnow_score_slack(coarse, r);
	if (!inner && least < 0)
		least = 0;
	if (estimate != NULL)
		*estimate = winnow_to_float(inner ? coarse->centroid_score - known :
									r * r + g * g - 2 * known);
	return least > FLT_MAX ? FLT_MAX : winnow_to_float(least);
}
