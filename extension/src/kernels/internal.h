/*
 * internal.h
 *		What the kernel files share: the tables of the levels, and the loops
 *		that are the same at every level.
 *
 * An instruction set supplies functions that answer for a block of 64 rows or
 * 64 floats as one uint64 ("keep64" functions); the macros below add the loop
 * over the words of a mask and the last, partial word.  They are macros, since
 * a function carries its own target attribute and could not inline a block
 * function of another target.
 */
#ifndef WINNOW_KERNELS_INTERNAL_H
#define WINNOW_KERNELS_INTERNAL_H

#include <float.h>
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define WINNOW_HAVE_X86 1
#endif
#if defined(__AARCH64EL__) && defined(__GNUC__)
#define WINNOW_HAVE_NEON 1
#endif

extern const WinnowKernels winnow_kernels_scalar;
#ifdef WINNOW_HAVE_NEON
extern const WinnowKernels winnow_kernels_neon;
#endif
#ifdef WINNOW_HAVE_X86
extern const WinnowKernels winnow_kernels_avx2;
extern const WinnowKernels winnow_kernels_avx512;
extern const WinnowKernels winnow_kernels_avx512_vpopcnt;
#endif

/* How many rows ahead code_differences asks for the next code. */
#define WINNOW_PREFETCH_ROWS 8

#define WINNOW_PREFETCH_CODE(codes, stride, rows, i, nrows) \
	do \
	{ \
		if ((i) + WINNOW_PREFETCH_ROWS < (nrows)) \
			__builtin_prefetch((codes) + \
							   (size_t) (rows)[(i) + WINNOW_PREFETCH_ROWS] * (stride)); \
	} while (0)

/*
 * Narrow [low, high] to what a column type can hold; false if no value of the
 * type lies within.
 */
static inline bool
winnow_clamp_range(int64_t *low, int64_t *high, int64_t smallest,
				   int64_t largest)
{
	if (*low < smallest)
		*low = smallest;
	if (*high > largest)
		*high = largest;
	return *low <= *high;
}

static inline void
winnow_filter_none(int n, uint64_t *mask)
{
	memset(mask, 0, ((size_t) n + 63) / 64 * sizeof(uint64_t));
}

/*
 * AND `keep`, an expression over the 64 rows at `rows`, into the mask.  Words
 * that are zero already are skipped without reading their rows.
 */
#define WINNOW_FILTER_ROWS(column, width, n, mask, keep) \
	do \
	{ \
		const unsigned char *first_ = (const unsigned char *) (column); \
		int			words_ = (n) / 64; \
		int			tail_ = (n) % 64; \
		for (int w_ = 0; w_ < words_; w_++) \
		{ \
			const unsigned char *rows = first_ + (size_t) w_ * 64 * (width); \
			if ((mask)[w_] != 0) \
				(mask)[w_] &= (keep); \
		} \
		if (tail_ > 0 && (mask)[words_] != 0) \
		{ \
			unsigned char rows[64 * (width)]; \
			memset(rows, 0, sizeof(rows)); \
			memcpy(rows, first_ + (size_t) words_ * 64 * (width), \
				   (size_t) tail_ * (width)); \
			(mask)[words_] &= (keep) & ((UINT64_C(1) << tail_) - 1); \
		} \
	} while (0)

#define WINNOW_RANGE_KERNEL(TARGET, isa, bits) \
TARGET static void \
isa##_range_int##bits(const void *column, int n, int64_t low, int64_t high, \
					  uint64_t *mask) \
{ \
	if (!winnow_clamp_range(&low, &high, INT##bits##_MIN, INT##bits##_MAX)) \
	{ \
		winnow_filter_none(n, mask); \
		return; \
	} \
	WINNOW_FILTER_ROWS(column, sizeof(int##bits##_t), n, mask, \
					   isa##_keep_int##bits(rows, (int##bits##_t) low, \
											(int##bits##_t) high)); \
}

/*
 * The kernels that are a loop over blocks of 64, from these functions of the
 * instruction set, where rows, v, a and b need no alignment:
 *
 * uint64_t isa_keep_int8/16/32/64(const unsigned char *rows, intN_t low, intN_t high)
 * uint64_t isa_keep_bits(const unsigned char *rows, uint8_t bits)	(value & bits) != 0
 * uint64_t isa_keep_signature(const unsigned char *rows, uint64_t need0, uint64_t need1)
 * void isa_planes64(const float *v, float low, float inv_step, uint64_t out[4])
 * uint64_t isa_greater64(const float *a, const float *b)
 */
#define WINNOW_BLOCK_KERNELS(TARGET, isa) \
WINNOW_RANGE_KERNEL(TARGET, isa, 8) \
WINNOW_RANGE_KERNEL(TARGET, isa, 16) \
WINNOW_RANGE_KERNEL(TARGET, isa, 32) \
WINNOW_RANGE_KERNEL(TARGET, isa, 64) \
\
TARGET static void \
isa##_bits_uint8(const uint8_t *column, int n, uint8_t bits, bool want, \
				 uint64_t *mask) \
{ \
	uint64_t	flip = want ? 0 : ~UINT64_C(0); \
	WINNOW_FILTER_ROWS(column, 1, n, mask, isa##_keep_bits(rows, bits) ^ flip); \
} \
\
TARGET static void \
isa##_signature_all(const void *column, int n, const uint64_t need[2], \
					uint64_t *mask) \
{ \
	WINNOW_FILTER_ROWS(column, 16, n, mask, \
					   isa##_keep_signature(rows, need[0], need[1])); \
} \
\
TARGET static void \
isa##_quantize_planes(const float *v, int dim, float low, float inv_step, \
					  uint64_t *planes, int nwords) \
{ \
	for (int w = 0; w < nwords; w++) \
	{ \
		const float *block = v + (size_t) w * 64; \
		int			left = dim - w * 64; \
		uint64_t	out[4] = {0, 0, 0, 0}; \
		float		rest[64]; \
		if (left > 0 && left < 64) \
		{ \
			for (int i = 0; i < 64; i++) \
				rest[i] = i < left ? block[i] : low; \
			block = rest; \
		} \
		if (left > 0) \
			isa##_planes64(block, low, inv_step, out); \
		for (int p = 0; p < 4; p++) \
			planes[(size_t) p * nwords + w] = out[p]; \
	} \
} \
\
TARGET static void \
isa##_greater_bits(const float *a, const float *b, int dim, uint64_t *bits, \
				   int nwords) \
{ \
	for (int w = 0; w < nwords; w++) \
	{ \
		int			left = dim - w * 64; \
		float		rest_a[64]; \
		float		rest_b[64]; \
		if (left >= 64) \
			bits[w] = isa##_greater64(a + (size_t) w * 64, b + (size_t) w * 64); \
		else if (left > 0) \
		{ \
			memset(rest_a, 0, sizeof(rest_a)); \
			memset(rest_b, 0, sizeof(rest_b)); \
			memcpy(rest_a, a + (size_t) w * 64, left * sizeof(float)); \
			memcpy(rest_b, b + (size_t) w * 64, left * sizeof(float)); \
			bits[w] = isa##_greater64(rest_a, rest_b); \
		} \
		else \
			bits[w] = 0; \
	} \
}

/* The members of a WinnowKernels that one instruction set names alike. */
#define WINNOW_KERNEL_MEMBERS(isa) \
	.l2_squared = isa##_l2_squared, \
	.inner_product = isa##_inner_product, \
	.l1 = isa##_l1, \
	.cosine_terms = isa##_cosine_terms, \
	.l2_squared_many = isa##_l2_squared_many, \
	.residual = isa##_residual, \
	.code_bounds = isa##_code_bounds, \
	.quantize_planes = isa##_quantize_planes, \
	.greater_bits = isa##_greater_bits, \
	.hadamard = isa##_hadamard, \
	.range_int8 = isa##_range_int8, \
	.range_int16 = isa##_range_int16, \
	.range_int32 = isa##_range_int32, \
	.range_int64 = isa##_range_int64, \
	.bits_uint8 = isa##_bits_uint8, \
	.signature_all = isa##_signature_all

#endif							/* WINNOW_KERNELS_INTERNAL_H */
