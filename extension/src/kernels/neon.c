/*
 * neon.c
 *		Kernels for aarch64, where NEON (Advanced SIMD) is always present.
 *
 * Sums of floats use four accumulators of four lanes; the last one to three
 * elements are added one by one.  Bits are counted per byte (cnt); the bytes
 * of the four planes add up, weighted, to at most 15 * 8 = 120.  NEON has no
 * instruction that gathers a bit per lane, so 64 byte masks become a uint64 by
 * weighting them and adding neighbours three times.
 */
#include "internal.h"

#ifdef WINNOW_HAVE_NEON

#include <arm_neon.h>

#define NEON_INLINE static inline __attribute__((always_inline))

NEON_INLINE float32x4_t
neon_add_square(float32x4_t a, float32x4_t b, float32x4_t sum)
{
	float32x4_t d = vsubq_f32(a, b);

	return vfmaq_f32(sum, d, d);
}

NEON_INLINE float32x4_t
neon_add_product(float32x4_t a, float32x4_t b, float32x4_t sum)
{
	return vfmaq_f32(sum, a, b);
}

NEON_INLINE float32x4_t
neon_add_absolute(float32x4_t a, float32x4_t b, float32x4_t sum)
{
	return vaddq_f32(sum, vabdq_f32(a, b));
}

/* The one to three floats at v, then zeros. */
NEON_INLINE float32x4_t
neon_load_tail(const float *v, int n)
{
	float		lanes[4] = {0, 0, 0, 0};

	for (int i = 0; i < n; i++)
		lanes[i] = v[i];
	return vld1q_f32(lanes);
}

/*
 * A sum over pairs: ADD(a, b, sum) adds four terms, and must add zero for a
 * pair of zeros.
 */
#define NEON_PAIR_SUM(name, ADD) \
static float \
name(const float *a, const float *b, int dim) \
{ \
	float32x4_t s0 = vdupq_n_f32(0); \
	float32x4_t s1 = s0; \
	float32x4_t s2 = s0; \
	float32x4_t s3 = s0; \
	int			i = 0; \
	for (; i + 16 <= dim; i += 16) \
	{ \
		s0 = ADD(vld1q_f32(a + i), vld1q_f32(b + i), s0); \
		s1 = ADD(vld1q_f32(a + i + 4), vld1q_f32(b + i + 4), s1); \
		s2 = ADD(vld1q_f32(a + i + 8), vld1q_f32(b + i + 8), s2); \
		s3 = ADD(vld1q_f32(a + i + 12), vld1q_f32(b + i + 12), s3); \
	} \
	for (; i + 4 <= dim; i += 4) \
		s0 = ADD(vld1q_f32(a + i), vld1q_f32(b + i), s0); \
	if (i < dim) \
		s1 = ADD(neon_load_tail(a + i, dim - i), \
				 neon_load_tail(b + i, dim - i), s1); \
	return vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3))); \
}

NEON_PAIR_SUM(neon_l2_squared, neon_add_square)
NEON_PAIR_SUM(neon_inner_product, neon_add_product)
NEON_PAIR_SUM(neon_l1, neon_add_absolute)

static void
neon_cosine_terms(const float *a, const float *b, int dim,
				  float *ab, float *aa, float *bb)
{
	/* three passes: the vectors stay in the first-level cache */
	*ab = neon_inner_product(a, b, dim);
	*aa = neon_inner_product(a, a, dim);
	*bb = neon_inner_product(b, b, dim);
}

static void
neon_l2_squared_many(const float *query, const float *base,
					 size_t stride_floats, int count, int dim, float *out)
{
	int			row = 0;

	/*
	 * Four rows at a time share the loads of the query; two accumulators each
	 * keep the sums as short as those of l2_squared.
	 */
	for (; row + 4 <= count; row += 4)
	{
		const float *b = base + row * stride_floats;
		float32x4_t s[8];
		int			i = 0;

		for (int j = 0; j < 8; j++)
			s[j] = vdupq_n_f32(0);
		for (; i + 8 <= dim; i += 8)
		{
			float32x4_t q0 = vld1q_f32(query + i);
			float32x4_t q1 = vld1q_f32(query + i + 4);

			for (int j = 0; j < 4; j++)
			{
				const float *at = b + j * stride_floats + i;

				s[j] = neon_add_square(q0, vld1q_f32(at), s[j]);
				s[j + 4] = neon_add_square(q1, vld1q_f32(at + 4), s[j + 4]);
			}
		}
		for (; i < dim; i += 4)
		{
			int			n = dim - i < 4 ? dim - i : 4;
			float32x4_t q = neon_load_tail(query + i, n);

			for (int j = 0; j < 4; j++)
				s[j] = neon_add_square(q, neon_load_tail(b + j * stride_floats + i, n),
									   s[j]);
		}
		for (int j = 0; j < 4; j++)
			out[row + j] = vaddvq_f32(vaddq_f32(s[j], s[j + 4]));
	}
	for (; row < count; row++)
		out[row] = neon_l2_squared(query, base + row * stride_floats, dim);
}

static float
neon_residual(const float *a, const float *b, int dim,
			  float *out, float *low, float *high)
{
	float32x4_t smallest = vdupq_n_f32(__builtin_inff());
	float32x4_t largest = vdupq_n_f32(-__builtin_inff());
	int			i = 0;

	for (; i + 4 <= dim; i += 4)
	{
		float32x4_t d = vsubq_f32(vld1q_f32(a + i), vld1q_f32(b + i));

		vst1q_f32(out + i, d);
		smallest = vminnmq_f32(smallest, d);
		largest = vmaxnmq_f32(largest, d);
	}
	*low = vminnmvq_f32(smallest);
	*high = vmaxnmvq_f32(largest);
	for (; i < dim; i++)
	{
		out[i] = a[i] - b[i];
		if (out[i] < *low)
			*low = out[i];
		if (out[i] > *high)
			*high = out[i];
	}
	return neon_inner_product(out, out, dim);
}

/* Two 64-bit words, or one and a zero. */
NEON_INLINE uint8x16_t
neon_load_words(const void *at, int words)
{
	if (words >= 2)
		return vld1q_u8((const uint8_t *) at);
	return vcombine_u8(vld1_u8((const uint8_t *) at), vdup_n_u8(0));
}

static void
neon_code_differences(const uint8_t *codes, size_t stride, const uint16_t *rows,
					  int nrows, const uint64_t *planes, int nwords,
					  uint32_t *differences)
{
	for (int i = 0; i < nrows; i++)
	{
		const uint8_t *code = codes + (size_t) rows[i] * stride;
		uint32x4_t	sum = vdupq_n_u32(0);

		WINNOW_PREFETCH_CODE(codes, stride, rows, i, nrows);
		for (int w = 0; w < nwords; w += 2)
		{
			int			words = nwords - w;
			uint8x16_t	word = neon_load_words(code + (size_t) w * 8, words);
			uint8x16_t	count = vdupq_n_u8(0);

			/* from plane 3 down: count = 2 * count + the bits of this plane */
			for (int p = 3; p >= 0; p--)
			{
				uint8x16_t	plane = neon_load_words(planes + (size_t) p * nwords + w, words);

				count = vaddq_u8(vaddq_u8(count, count),
								 vcntq_u8(veorq_u8(word, plane)));
			}
			sum = vpadalq_u16(sum, vpaddlq_u8(count));
		}
		differences[i] = vaddvq_u32(sum);
	}
}

/* Returns whether lengths are within the range */
static inline bool
neon_bounds4(const uint32_t *differences, const float *heads,
			 const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	float32x4x2_t pairs = vld2q_f32(heads);
	float32x4_t one = vdupq_n_f32(1);
	float32x4_t floor = vdupq_n_f32(terms->floor);
	float32x4_t norm = pairs.val[0];
	float32x4_t align = pairs.val[1];
	float32x4_t sum = vcvtq_f32_u32(vld1q_u32(differences));
	uint32x4_t	valid = vandq_u32(vandq_u32(vcgeq_f32(norm, vdupq_n_f32(0)),
											vcleq_f32(norm, vdupq_n_f32(FLT_MAX))),
								  vandq_u32(vcgtq_f32(align, vdupq_n_f32(0)),
											vcleq_f32(align, one)));
	float32x4_t a = vfmaq_n_f32(vdupq_n_f32(terms->offset), sum, terms->factor);
	float32x4_t deviation = vsqrtq_f32(vfmaq_n_f32(vdupq_n_f32(terms->rounding),
												   vfmsq_f32(one, align, align),
												   terms->spread));
	float32x4_t most = vminq_f32(vdivq_f32(vfmaq_n_f32(a, deviation, terms->epsilon), align),
								 vdupq_n_f32(terms->span));
	float32x4_t fixed = vfmaq_n_f32(vdupq_n_f32(terms->base), vmulq_f32(norm, norm),
									terms->square);
	float32x4_t slack = vfmaq_f32(vdupq_n_f32(terms->slack0), norm,
								  vfmaq_n_f32(vdupq_n_f32(terms->slack1), norm,
											  terms->slack2));
	float32x4_t step = vmulq_n_f32(norm, terms->twice);
	float32x4_t score = vfmaq_f32(fixed, step, vdivq_f32(a, align));
	float32x4_t least = vmaxq_f32(vsubq_f32(vfmaq_f32(fixed, step, most), slack), floor);

	vst1q_f32(estimate, vbslq_f32(valid, score, vdupq_n_f32(terms->unknown)));
	vst1q_f32(lower, vbslq_f32(valid, least, floor));
	return vmaxvq_u32(vandq_u32(valid, vcgtq_f32(norm, vdupq_n_f32(WINNOW_LARGE_LENGTH)))) == 0;
}

static bool
neon_code_bounds(const uint32_t *differences, const float *heads, int n, const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	bool		within = true;
	int			i = 0;

	for (; i + 4 <= n; i += 4)
		within &= neon_bounds4(differences + i, heads + 2 * i, terms, estimate + i, lower + i);
	if (i < n)
	{
		size_t		bytes = (size_t) (n - i) * 4;
		uint32_t	sum[4] = {0};
		float		head[8] = {0};
		float		score[4];
		float		least[4];

		memcpy(sum, differences + i, bytes);
		memcpy(head, heads + 2 * i, 2 * bytes);
		within &= neon_bounds4(sum, head, terms, score, least);
		memcpy(estimate + i, score, bytes);
		memcpy(lower + i, least, bytes);
	}
	return within;
}

static void
neon_hadamard(float *v, int n)
{
	if (n < 4)
	{
		winnow_kernels_scalar.hadamard(v, n);
		return;
	}
	/* the first two levels within a register */
	for (int i = 0; i < n; i += 4)
	{
		float32x4_t x = vld1q_f32(v + i);
		float32x4_t even = vtrn1q_f32(x, x);	/* a a c c */
		float32x4_t odd = vtrn2q_f32(x, x); /* b b d d */
		float32x2_t low;
		float32x2_t high;

		x = vtrn1q_f32(vaddq_f32(even, odd), vsubq_f32(even, odd));
		low = vget_low_f32(x);
		high = vget_high_f32(x);
		vst1q_f32(v + i, vcombine_f32(vadd_f32(low, high), vsub_f32(low, high)));
	}
	for (int half = 4; half < n; half *= 2)
		for (int start = 0; start < n; start += 2 * half)
			for (int i = start; i < start + half; i += 4)
			{
				float32x4_t a = vld1q_f32(v + i);
				float32x4_t b = vld1q_f32(v + i + half);

				vst1q_f32(v + i, vaddq_f32(a, b));
				vst1q_f32(v + i + half, vsubq_f32(a, b));
			}
}

/* One bit per byte of 64 bytes that are 0 or 255. */
NEON_INLINE uint64_t
neon_mask64(const uint8x16_t m[4])
{
	static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128,
	1, 2, 4, 8, 16, 32, 64, 128};
	uint8x16_t	weight = vld1q_u8(weights);
	uint8x16_t	sum;

	sum = vpaddq_u8(vpaddq_u8(vandq_u8(m[0], weight), vandq_u8(m[1], weight)),
					vpaddq_u8(vandq_u8(m[2], weight), vandq_u8(m[3], weight)));
	sum = vpaddq_u8(sum, sum);
	return vgetq_lane_u64(vreinterpretq_u64_u8(sum), 0);
}

/* Sixteen byte masks from four vectors of 32-bit masks or small numbers. */
NEON_INLINE uint8x16_t
neon_narrow32(const uint32x4_t m[4])
{
	uint16x8_t	low = vcombine_u16(vmovn_u32(m[0]), vmovn_u32(m[1]));
	uint16x8_t	high = vcombine_u16(vmovn_u32(m[2]), vmovn_u32(m[3]));

	return vcombine_u8(vmovn_u16(low), vmovn_u16(high));
}

/* Four 32-bit masks from two vectors of 64-bit masks. */
NEON_INLINE uint32x4_t
neon_narrow64(uint64x2_t a, uint64x2_t b)
{
	return vcombine_u32(vmovn_u64(a), vmovn_u64(b));
}

NEON_INLINE void
neon_planes64(const float *v, float low, float inv_step, uint64_t out[4])
{
	uint8x16_t	u[4];

	for (int group = 0; group < 4; group++)
	{
		uint32x4_t	quarter[4];

		for (int j = 0; j < 4; j++)
		{
			float32x4_t x = vmulq_f32(vsubq_f32(vld1q_f32(v + group * 16 + j * 4),
												vdupq_n_f32(low)),
									  vdupq_n_f32(inv_step));

			/* maxnm gives the number for NaN */
			x = vminnmq_f32(vmaxnmq_f32(x, vdupq_n_f32(0)), vdupq_n_f32(15));
			quarter[j] = vcvtnq_u32_f32(x);
		}
		u[group] = neon_narrow32(quarter);
	}
	for (int p = 0; p < 4; p++)
	{
		uint8x16_t	m[4];

		for (int group = 0; group < 4; group++)
			m[group] = vtstq_u8(u[group], vdupq_n_u8((uint8_t) (1 << p)));
		out[p] = neon_mask64(m);
	}
}

NEON_INLINE uint64_t
neon_greater64(const float *a, const float *b)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		uint32x4_t	quarter[4];

		for (int j = 0; j < 4; j++)
			quarter[j] = vcgtq_f32(vld1q_f32(a + group * 16 + j * 4),
								   vld1q_f32(b + group * 16 + j * 4));
		m[group] = neon_narrow32(quarter);
	}
	return neon_mask64(m);
}

NEON_INLINE uint64_t
neon_keep_int8(const unsigned char *rows, int8_t low, int8_t high)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		int8x16_t	v = vreinterpretq_s8_u8(vld1q_u8(rows + group * 16));

		m[group] = vandq_u8(vcgeq_s8(v, vdupq_n_s8(low)),
							vcleq_s8(v, vdupq_n_s8(high)));
	}
	return neon_mask64(m);
}

NEON_INLINE uint64_t
neon_keep_int16(const unsigned char *rows, int16_t low, int16_t high)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		uint8x8_t	half[2];

		for (int j = 0; j < 2; j++)
		{
			int16x8_t	v = vreinterpretq_s16_u8(vld1q_u8(rows + group * 32 + j * 16));

			half[j] = vmovn_u16(vandq_u16(vcgeq_s16(v, vdupq_n_s16(low)),
										  vcleq_s16(v, vdupq_n_s16(high))));
		}
		m[group] = vcombine_u8(half[0], half[1]);
	}
	return neon_mask64(m);
}

NEON_INLINE uint64_t
neon_keep_int32(const unsigned char *rows, int32_t low, int32_t high)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		uint32x4_t	quarter[4];

		for (int j = 0; j < 4; j++)
		{
			int32x4_t	v = vreinterpretq_s32_u8(vld1q_u8(rows + group * 64 + j * 16));

			quarter[j] = vandq_u32(vcgeq_s32(v, vdupq_n_s32(low)),
								   vcleq_s32(v, vdupq_n_s32(high)));
		}
		m[group] = neon_narrow32(quarter);
	}
	return neon_mask64(m);
}

NEON_INLINE uint64x2_t
neon_within64(const unsigned char *rows, int64_t low, int64_t high)
{
	int64x2_t	v = vreinterpretq_s64_u8(vld1q_u8(rows));

	return vandq_u64(vcgeq_s64(v, vdupq_n_s64(low)),
					 vcleq_s64(v, vdupq_n_s64(high)));
}

NEON_INLINE uint64_t
neon_keep_int64(const unsigned char *rows, int64_t low, int64_t high)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		uint32x4_t	quarter[4];

		for (int j = 0; j < 4; j++)
		{
			const unsigned char *at = rows + group * 128 + j * 32;

			quarter[j] = neon_narrow64(neon_within64(at, low, high),
									   neon_within64(at + 16, low, high));
		}
		m[group] = neon_narrow32(quarter);
	}
	return neon_mask64(m);
}

NEON_INLINE uint64_t
neon_keep_bits(const unsigned char *rows, uint8_t bits)
{
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
		m[group] = vtstq_u8(vld1q_u8(rows + group * 16), vdupq_n_u8(bits));
	return neon_mask64(m);
}

/* Two rows at rows: 64-bit masks, one per row. */
NEON_INLINE uint64x2_t
neon_has64(const unsigned char *rows, uint64x2_t need)
{
	uint64x2_t	v0 = vreinterpretq_u64_u8(vld1q_u8(rows));
	uint64x2_t	v1 = vreinterpretq_u64_u8(vld1q_u8(rows + 16));
	uint64x2_t	has0 = vceqq_u64(vandq_u64(v0, need), need);
	uint64x2_t	has1 = vceqq_u64(vandq_u64(v1, need), need);

	return vandq_u64(vtrn1q_u64(has0, has1), vtrn2q_u64(has0, has1));
}

NEON_INLINE uint64_t
neon_keep_signature(const unsigned char *rows, uint64_t need0, uint64_t need1)
{
	uint64x2_t	need = vcombine_u64(vcreate_u64(need0), vcreate_u64(need1));
	uint8x16_t	m[4];

	for (int group = 0; group < 4; group++)
	{
		uint32x4_t	quarter[4];

		for (int j = 0; j < 4; j++)
		{
			const unsigned char *at = rows + group * 256 + j * 64;

			quarter[j] = neon_narrow64(neon_has64(at, need),
									   neon_has64(at + 32, need));
		}
		m[group] = neon_narrow32(quarter);
	}
	return neon_mask64(m);
}

#define NO_TARGET
WINNOW_BLOCK_KERNELS(NO_TARGET, neon)

const WinnowKernels winnow_kernels_neon = {
	.level = WINNOW_SIMD_NEON,
	.name = "neon",
	.code_differences = neon_code_differences,
	WINNOW_KERNEL_MEMBERS(neon)};

#endif							/* WINNOW_HAVE_NEON */
