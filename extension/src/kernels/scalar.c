/*
 * scalar.c
 *		The reference kernels, in plain C.
 *
 * They run where no better instruction set is found, and they are what every
 * other level is tested against; so the compiler is told not to vectorise
 * them.  Sums use four float accumulators within a block of BLOCK elements,
 * and add up the blocks, which keeps the error of long sums low
 * (WINNOW_SUM_ERROR in kernels.h).
 */
#include <math.h>

#include "internal.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-vectorize", "no-tree-slp-vectorize")
#endif

#define BLOCK 256

/*
 * Sum TERM, an expression in i, for 0 <= i < dim.
 */
#define BLOCKED_SUM(total, dim, TERM) \
	do \
	{ \
		total = 0; \
		for (int start_ = 0; start_ < (dim); start_ += BLOCK) \
		{ \
			int end_ = (dim) -start_ < BLOCK ? (dim) : start_ + BLOCK; \
			int			i = start_; \
			float		s0_ = 0; \
			float		s1_ = 0; \
			float		s2_ = 0; \
			float		s3_ = 0; \
			for (; i + 4 <= end_; i++) \
			{ \
				s0_ += (TERM); \
				i++; \
				s1_ += (TERM); \
				i++; \
				s2_ += (TERM); \
				i++; \
				s3_ += (TERM); \
			} \
			for (; i < end_; i++) \
				s0_ += (TERM); \
			total += (s0_ + s1_) + (s2_ + s3_); \
		} \
	} while (0)

static float
scalar_l2_squared(const float *a, const float *b, int dim)
{
	float		sum;

	BLOCKED_SUM(sum, dim, (a[i] - b[i]) * (a[i] - b[i]));
	return sum;
}

static float
scalar_inner_product(const float *a, const float *b, int dim)
{
	float		sum;

	BLOCKED_SUM(sum, dim, a[i] * b[i]);
	return sum;
}

static float
scalar_l1(const float *a, const float *b, int dim)
{
	float		sum;

	BLOCKED_SUM(sum, dim, fabsf(a[i] - b[i]));
	return sum;
}

static void
scalar_cosine_terms(const float *a, const float *b, int dim,
					float *ab, float *aa, float *bb)
{
	*ab = scalar_inner_product(a, b, dim);
	*aa = scalar_inner_product(a, a, dim);
	*bb = scalar_inner_product(b, b, dim);
}

static void
scalar_l2_squared_many(const float *query, const float *base,
					   size_t stride_floats, int count, int dim, float *out)
{
	for (int row = 0; row < count; row++)
		out[row] = scalar_l2_squared(query, base + row * stride_floats, dim);
}

static float
scalar_residual(const float *a, const float *b, int dim,
				float *out, float *low, float *high)
{
	*low = INFINITY;
	*high = -INFINITY;
	for (int i = 0; i < dim; i++)
	{
		out[i] = a[i] - b[i];
		if (out[i] < *low)
			*low = out[i];
		if (out[i] > *high)
			*high = out[i];
	}
	return scalar_inner_product(out, out, dim);
}

static void
scalar_code_differences(const uint8_t *codes, size_t stride, const uint16_t *rows,
						int nrows, const uint64_t *planes, int nwords,
						uint32_t *differences)
{
	for (int i = 0; i < nrows; i++)
	{
		const uint8_t *code = codes + (size_t) rows[i] * stride;
		uint32_t	sum = 0;

		for (int w = 0; w < nwords; w++)
		{
			uint64_t	word;

			memcpy(&word, code + (size_t) w * 8, 8);
			for (int p = 0; p < 4; p++)
				sum += (uint32_t)
						   __builtin_popcountll(word ^ planes[(size_t) p * nwords + w])
					   << p;
		}
		differences[i] = sum;
	}
}

static bool
scalar_code_bounds(const uint32_t *differences, const float *heads, int n, const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	bool		within = true;

	for (int i = 0; i < n; i++)
	{
		float		r = heads[2 * i];
		float		t = heads[2 * i + 1];
		float		a;
		float		most;
		float		fixed;
		float		least;

		if (!(r >= 0 && r <= FLT_MAX && t > 0 && t <= 1))
		{
			estimate[i] = terms->unknown;
			lower[i] = terms->floor;
			continue;
		}
		a = terms->factor * (float) differences[i] + terms->offset;
		most = (a + terms->epsilon *
						sqrtf(terms->spread * (1 - t * t) + terms->rounding)) /
			   t;
		if (most > terms->span)
			most = terms->span;
		fixed = terms->square * (r * r) + terms->base;
		estimate[i] = fixed + terms->twice * r * (a / t);
		within &= r <= WINNOW_LARGE_LENGTH;
		least = fixed + terms->twice * r * most -
			((terms->slack2 * r + terms->slack1) * r + terms->slack0);
		lower[i] = least > terms->floor ? least : terms->floor;
	}
	return within;
}

static void
scalar_hadamard(float *v, int n)
{
	for (int half = 1; half < n; half *= 2)
		for (int start = 0; start < n; start += 2 * half)
			for (int i = start; i < start + half; i++)
			{
				float		a = v[i];
				float		b = v[i + half];

				v[i] = a + b;
				v[i + half] = a - b;
			}
}

static void
scalar_planes64(const float *v, float low, float inv_step, uint64_t out[4])
{
	for (int i = 0; i < 64; i++)
	{
		float		x = (v[i] - low) * inv_step;
		uint64_t	u;

		if (!(x > 0))			/* also NaN */
			x = 0;
		if (x > 15)
			x = 15;
		u = (uint64_t) lrintf(x);
		for (int p = 0; p < 4; p++)
			out[p] |= (u >> p & 1) << i;
	}
}

static uint64_t
scalar_greater64(const float *a, const float *b)
{
	uint64_t	bits = 0;

	for (int i = 0; i < 64; i++)
		bits |= (uint64_t) (a[i] > b[i]) << i;
	return bits;
}

#define SCALAR_KEEP_INT(bits) \
static uint64_t \
scalar_keep_int##bits(const unsigned char *rows, int##bits##_t low, \
					  int##bits##_t high) \
{ \
	uint64_t	keep = 0; \
	for (int i = 0; i < 64; i++) \
	{ \
		int##bits##_t value; \
		memcpy(&value, rows + i * sizeof(value), sizeof(value)); \
		keep |= (uint64_t) (low <= value && value <= high) << i; \
	} \
	return keep; \
}

SCALAR_KEEP_INT(8)
SCALAR_KEEP_INT(16)
SCALAR_KEEP_INT(32)
SCALAR_KEEP_INT(64)

static uint64_t
scalar_keep_bits(const unsigned char *rows, uint8_t bits)
{
	uint64_t	keep = 0;

	for (int i = 0; i < 64; i++)
		keep |= (uint64_t) ((rows[i] & bits) != 0) << i;
	return keep;
}

static uint64_t
scalar_keep_signature(const unsigned char *rows, uint64_t need0,
					  uint64_t need1)
{
	uint64_t	keep = 0;

	for (int i = 0; i < 64; i++)
	{
		uint64_t	signature[2];

		memcpy(signature, rows + i * sizeof(signature), sizeof(signature));
		keep |= (uint64_t) ((signature[0] & need0) == need0 &&
							(signature[1] & need1) == need1)
				<< i;
	}
	return keep;
}

#define NO_TARGET
WINNOW_BLOCK_KERNELS(NO_TARGET, scalar)

const WinnowKernels winnow_kernels_scalar = {
	.level = WINNOW_SIMD_SCALAR,
	.name = "scalar",
	.code_differences = scalar_code_differences,
	WINNOW_KERNEL_MEMBERS(scalar)};
