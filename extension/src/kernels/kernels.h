/*
 * kernels.h
 *		The SIMD kernels: distances, code estimates, filter columns.
 *
 * Every kernel exists once per instruction set (scalar.c, neon.c, avx2.c,
 * avx512.c); dispatch.c picks the best set that the CPU and the operating
 * system support when the library is loaded.  scalar.c is the reference that
 * the others are tested against: integer kernels, quantize_planes,
 * greater_bits and hadamard give the same bits at every level, while sums of
 * floats (see WINNOW_SUM_ERROR) and code_bounds differ by rounding.
 *
 * Nothing here allocates, throws or needs alignment, except where a parameter
 * is typed uint64_t *, which is 8-byte aligned as usual.
 */
#ifndef WINNOW_KERNELS_H
#define WINNOW_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instruction sets, weakest first. */
typedef enum WinnowSimd
{
	WINNOW_SIMD_SCALAR,
	WINNOW_SIMD_NEON,
	WINNOW_SIMD_AVX2,
	WINNOW_SIMD_AVX512,
	WINNOW_SIMD_AVX512_VPOPCNT
} WinnowSimd;

/*
 * Relative error of a float sum of `dim` non-negative terms computed by any
 * level: at most dim / 16 additions follow each other in one accumulator, and
 * the constant covers the rounding of the terms, scalar.c's inner blocks and
 * the final reduction.  The unit is the rounding unit of float, 2^-24.
 */
#define WINNOW_SUM_ERROR(dim)	(((dim) / 16 + 80) * 5.9604644775390625e-8)

/* Lengths whose squares, and what is made of them, are far from the end of float's range */
#define WINNOW_LARGE_LENGTH 1e15f

/*
 * What code_bounds needs to know of a query and a list; quantize.c fills it in.
 * With a the estimate of <o, q'> from the bits of a code, r its norm and t its
 * alignment:
 *
 * most = min(span, (a + epsilon sqrt(spread (1 - t^2) + rounding)) / t)
 *
 * estimate = square r^2 + base + twice r a / t
 *
 * lower = max(floor, square r^2 + base + twice r most - slack(r)), where
 * slack(r) = slack0 + slack1 r + slack2 r^2
 */
typedef struct WinnowBoundTerms
{
	float		factor;			/* a = factor * differences */
	float		offset;			/* + offset */
	float		span;
	float		epsilon;
	float		spread;
	float		rounding;
	float		square;
	float		base;
	float		twice;
	float		slack0;
	float		slack1;
	float		slack2;
	float		floor;
	float		unknown;		/* estimate where r or t is not valid; lower is floor */
} WinnowBoundTerms;

typedef struct WinnowKernels
{
	WinnowSimd	level;
	const char *name;			/* "scalar", "neon", "avx2", "avx512",
								 * "avx512_vpopcnt" */

	/* sum of (a[i] - b[i])^2 */
	float		(*l2_squared) (const float *a, const float *b, int dim);

	/* sum of a[i] * b[i] */
	float		(*inner_product) (const float *a, const float *b, int dim);

	/* sum of |a[i] - b[i]| */
	float		(*l1) (const float *a, const float *b, int dim);

	/* the three sums of a cosine: a.b, a.a and b.b */
	void		(*cosine_terms) (const float *a, const float *b, int dim,
								 float *ab, float *aa, float *bb);

	/* out[i] = l2_squared(query, base + i * stride_floats), i < count */
	void		(*l2_squared_many) (const float *query, const float *base,
									size_t stride_floats, int count, int dim,
									float *out);

	/*
	 * out = a - b with its smallest and largest element (of dim >= 1); returns
	 * the sum of squares of out.
	 */
	float		(*residual) (const float *a, const float *b, int dim,
							 float *out, float *low, float *high);

	/*
	 * Sum the weighted bits in which 1-bit codes differ from a 4-bit query.  The
	 * code of row i < nrows is nwords uint64 at codes + rows[i] * stride:
	 *
	 * differences[i] = sum over p < 4 of 2^p * popcount(code ^ planes[p * nwords ..])
	 */
	void		(*code_differences) (const uint8_t *codes, size_t stride,
									 const uint16_t *rows, int nrows,
									 const uint64_t *planes, int nwords,
									 uint32_t *differences);

	/*
	 * Estimates and lower bounds of n scores, see WinnowBoundTerms; heads has r and t
	 * of one row after the other, which are valid if 0 <= r < infinity and 0 < t <= 1.
	 * In float: the terms must be such that nothing overflows, and if an r is beyond
	 * WINNOW_LARGE_LENGTH (but finite) false is returned, and nothing can be said.
	 */
	bool		(*code_bounds) (const uint32_t *differences, const float *heads, int n,
								const WinnowBoundTerms *terms,
								float *estimate, float *lower);

	/*
	 * u[i] = clamp(round_to_even((v[i] - low) * inv_step), 0, 15), NaN gives
	 * 0; bit p of u[i] becomes bit i % 64 of planes[p * nwords + i / 64].
	 * Padding bits are zero.  nwords >= ceil(dim / 64).
	 */
	void		(*quantize_planes) (const float *v, int dim, float low,
									float inv_step, uint64_t *planes,
									int nwords);

	/* bit i % 64 of bits[i / 64] = (a[i] > b[i]); padding bits are zero */
	void		(*greater_bits) (const float *a, const float *b, int dim,
								 uint64_t *bits, int nwords);

	/* Walsh-Hadamard transform in place, not normalised; n a power of two */
	void		(*hadamard) (float *v, int n);

	/*
	 * Filter columns.  Bit i % 64 of mask[i / 64] stands for row i < n; rows
	 * that fail lose their bit, no row gains one, and the bits from n to the
	 * end of the last word are cleared.
	 */

	/* keep rows with low <= value <= high */
	void		(*range_int8) (const void *column, int n, int64_t low,
							   int64_t high, uint64_t *mask);
	void		(*range_int16) (const void *column, int n, int64_t low,
								int64_t high, uint64_t *mask);
	void		(*range_int32) (const void *column, int n, int64_t low,
								int64_t high, uint64_t *mask);
	void		(*range_int64) (const void *column, int n, int64_t low,
								int64_t high, uint64_t *mask);

	/* keep rows where ((value & bits) != 0) == want */
	void		(*bits_uint8) (const uint8_t *column, int n, uint8_t bits,
							   bool want, uint64_t *mask);

	/* two uint64 per row; keep rows where both have every bit of need */
	void		(*signature_all) (const void *column, int n,
								  const uint64_t need[2], uint64_t *mask);
} WinnowKernels;

/* The level in use.  Never NULL; the best one from library load on. */
extern const WinnowKernels *winnow_kernels;

/* The best level that this CPU and build have. */
extern const WinnowKernels *winnow_kernels_best(void);

/* A given level, or NULL where the CPU or the build lacks it. */
extern const WinnowKernels *winnow_kernels_at(WinnowSimd level);

/*
 * Use the best level not above `highest`.  False says that `highest` itself is
 * not available and a lower one was taken.
 */
extern bool winnow_kernels_use(WinnowSimd highest);

/* Use the best level; runs by itself when the library is loaded. */
extern void winnow_kernels_init(void);

#endif							/* WINNOW_KERNELS_H */
