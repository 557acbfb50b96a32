/*
 * avx2.c
 *		Kernels for x86-64 with AVX2, FMA and POPCNT (2013 and later).
 *
 * Sums of floats use four accumulators of eight lanes; the tail is read with a
 * masked load, which touches no memory behind the vector.  Bits are counted by
 * looking nibbles up in a table (vpshufb) and adding bytes (vpsadbw), after
 * Mula, Kurz and Lemire, "Faster Population Counts Using AVX2 Instructions",
 * The Computer Journal 61(1), 2018; the table of plane p holds counts times
 * 2^p, so that one byte collects all four planes: at most 15 * 8 = 120.
 */
#include "internal.h"

#ifdef WINNOW_HAVE_X86

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,popcnt")))
#define AVX2_INLINE AVX2 static inline __attribute__((always_inline))

/* A mask for the first n of eight 32-bit lanes, or n of four 64-bit lanes. */
AVX2_INLINE __m256i
avx2_first32(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
							  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

AVX2_INLINE __m256i
avx2_first64(int n)
{
	return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n),
							  _mm256_setr_epi64x(0, 1, 2, 3));
}

AVX2_INLINE float
avx2_sum(__m256 v)
{
	__m128		x = _mm_add_ps(_mm256_castps256_ps128(v),
							   _mm256_extractf128_ps(v, 1));

	x = _mm_add_ps(x, _mm_movehl_ps(x, x));
	x = _mm_add_ss(x, _mm_movehdup_ps(x));
	return _mm_cvtss_f32(x);
}

AVX2_INLINE float
avx2_sum4(const __m256 s[4])
{
	return avx2_sum(_mm256_add_ps(_mm256_add_ps(s[0], s[1]),
								  _mm256_add_ps(s[2], s[3])));
}

AVX2_INLINE __m256
avx2_add_square(__m256 a, __m256 b, __m256 sum)
{
	__m256		d = _mm256_sub_ps(a, b);

	return _mm256_fmadd_ps(d, d, sum);
}

AVX2_INLINE __m256
avx2_add_absolute(__m256 a, __m256 b, __m256 sum)
{
	return _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0f),
											   _mm256_sub_ps(a, b)));
}

/*
 * A sum over pairs: ADD(a, b, sum) adds eight terms, and must add zero for a
 * pair of zeros.
 */
#define AVX2_PAIR_SUM(name, ADD) \
AVX2 static float \
name(const float *a, const float *b, int dim) \
{ \
	__m256		s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), \
						_mm256_setzero_ps(), _mm256_setzero_ps()}; \
	int			i = 0; \
	for (; i + 32 <= dim; i += 32) \
	{ \
		s[0] = ADD(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s[0]); \
		s[1] = ADD(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s[1]); \
		s[2] = ADD(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s[2]); \
		s[3] = ADD(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s[3]); \
	} \
	for (; i + 8 <= dim; i += 8) \
		s[0] = ADD(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s[0]); \
	if (i < dim) \
	{ \
		__m256i		tail = avx2_first32(dim - i); \
		s[1] = ADD(_mm256_maskload_ps(a + i, tail), \
				   _mm256_maskload_ps(b + i, tail), s[1]); \
	} \
	return avx2_sum4(s); \
}

AVX2_PAIR_SUM(avx2_l2_squared, avx2_add_square)
AVX2_PAIR_SUM(avx2_inner_product, _mm256_fmadd_ps)
AVX2_PAIR_SUM(avx2_l1, avx2_add_absolute)

AVX2 static void
avx2_cosine_terms(const float *a, const float *b, int dim,
				  float *ab, float *aa, float *bb)
{
	__m256		s[6];
	int			i = 0;

	for (int j = 0; j < 6; j++)
		s[j] = _mm256_setzero_ps();
	for (; i + 16 <= dim; i += 16)
	{
		for (int j = 0; j < 2; j++)
		{
			__m256		x = _mm256_loadu_ps(a + i + j * 8);
			__m256		y = _mm256_loadu_ps(b + i + j * 8);

			s[j * 3] = _mm256_fmadd_ps(x, y, s[j * 3]);
			s[j * 3 + 1] = _mm256_fmadd_ps(x, x, s[j * 3 + 1]);
			s[j * 3 + 2] = _mm256_fmadd_ps(y, y, s[j * 3 + 2]);
		}
	}
	for (; i < dim; i += 8)
	{
		__m256i		some = avx2_first32(dim - i);
		__m256		x = _mm256_maskload_ps(a + i, some);
		__m256		y = _mm256_maskload_ps(b + i, some);

		s[0] = _mm256_fmadd_ps(x, y, s[0]);
		s[1] = _mm256_fmadd_ps(x, x, s[1]);
		s[2] = _mm256_fmadd_ps(y, y, s[2]);
	}
	*ab = avx2_sum(_mm256_add_ps(s[0], s[3]));
	*aa = avx2_sum(_mm256_add_ps(s[1], s[4]));
	*bb = avx2_sum(_mm256_add_ps(s[2], s[5]));
}

AVX2 static void
avx2_l2_squared_many(const float *query, const float *base,
					 size_t stride_floats, int count, int dim, float *out)
{
	int			row = 0;

	/*
	 * Four rows at a time share the loads of the query; two accumulators each
	 * keep the sums short.
	 */
	for (; row + 4 <= count; row += 4)
	{
		const float *b = base + row * stride_floats;
		__m256		s[8];
		int			i = 0;

		for (int j = 0; j < 8; j++)
			s[j] = _mm256_setzero_ps();
		for (; i + 16 <= dim; i += 16)
		{
			__m256		q0 = _mm256_loadu_ps(query + i);
			__m256		q1 = _mm256_loadu_ps(query + i + 8);

			for (int j = 0; j < 4; j++)
			{
				const float *at = b + j * stride_floats + i;

				s[j] = avx2_add_square(q0, _mm256_loadu_ps(at), s[j]);
				s[j + 4] = avx2_add_square(q1, _mm256_loadu_ps(at + 8), s[j + 4]);
			}
		}
		for (; i < dim; i += 8)
		{
			__m256i		some = avx2_first32(dim - i);
			__m256		q = _mm256_maskload_ps(query + i, some);

			for (int j = 0; j < 4; j++)
				s[j] = avx2_add_square(q, _mm256_maskload_ps(b + j * stride_floats + i, some), s[j]);
		}
		for (int j = 0; j < 4; j++)
			out[row + j] = avx2_sum(_mm256_add_ps(s[j], s[j + 4]));
	}
	for (; row < count; row++)
		out[row] = avx2_l2_squared(query, base + row * stride_floats, dim);
}

AVX2 static float
avx2_residual(const float *a, const float *b, int dim,
			  float *out, float *low, float *high)
{
	__m256		smallest = _mm256_set1_ps(__builtin_inff());
	__m256		largest = _mm256_set1_ps(-__builtin_inff());
	float		lanes[2][8];
	int			i = 0;

	for (; i + 8 <= dim; i += 8)
	{
		__m256		d = _mm256_sub_ps(_mm256_loadu_ps(a + i),
									  _mm256_loadu_ps(b + i));

		_mm256_storeu_ps(out + i, d);
		smallest = _mm256_min_ps(d, smallest);
		largest = _mm256_max_ps(d, largest);
	}
	if (i < dim)
	{
		__m256i		tail = avx2_first32(dim - i);
		__m256		keep = _mm256_castsi256_ps(tail);
		__m256		d = _mm256_sub_ps(_mm256_maskload_ps(a + i, tail),
									  _mm256_maskload_ps(b + i, tail));

		_mm256_maskstore_ps(out + i, tail, d);
		smallest = _mm256_blendv_ps(smallest, _mm256_min_ps(d, smallest), keep);
		largest = _mm256_blendv_ps(largest, _mm256_max_ps(d, largest), keep);
	}
	_mm256_storeu_ps(lanes[0], smallest);
	_mm256_storeu_ps(lanes[1], largest);
	*low = lanes[0][0];
	*high = lanes[1][0];
	for (int j = 1; j < 8; j++)
	{
		if (lanes[0][j] < *low)
			*low = lanes[0][j];
		if (lanes[1][j] > *high)
			*high = lanes[1][j];
	}
	return avx2_inner_product(out, out, dim);
}

/* Per byte: the bits set, as table[nibble] of both nibbles. */
AVX2_INLINE __m256i
avx2_count(__m256i v, __m256i table)
{
	__m256i		nibble = _mm256_set1_epi8(15);

	return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble)),
						   _mm256_shuffle_epi8(table,
											   _mm256_and_si256(_mm256_srli_epi16(v, 4),
																nibble)));
}

AVX2 static void
avx2_code_differences(const uint8_t *codes, size_t stride, const uint16_t *rows,
					  int nrows, const uint64_t *planes, int nwords,
					  uint32_t *differences)
{
	__m256i		table[4];

	table[0] = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
								0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
	for (int p = 1; p < 4; p++)
		table[p] = _mm256_add_epi8(table[p - 1], table[p - 1]);

	for (int i = 0; i < nrows; i++)
	{
		const uint8_t *code = codes + (size_t) rows[i] * stride;
		__m256i		sum = _mm256_setzero_si256();
		__m128i		half;

		WINNOW_PREFETCH_CODE(codes, stride, rows, i, nrows);
		for (int w = 0; w < nwords; w += 4)
		{
			__m256i		some = avx2_first64(nwords - w);
			__m256i		word = _mm256_maskload_epi64((const long long *) (code + (size_t) w * 8),
													 some);
			__m256i		count = _mm256_setzero_si256();

			for (int p = 0; p < 4; p++)
			{
				__m256i		plane = _mm256_maskload_epi64((const long long *) planes +
														  (size_t) p * nwords + w,
													  some);

				count = _mm256_add_epi8(count,
										avx2_count(_mm256_xor_si256(word, plane),
												   table[p]));
			}
			sum = _mm256_add_epi64(sum, _mm256_sad_epu8(count, _mm256_setzero_si256()));
		}
		half = _mm_add_epi32(_mm256_castsi256_si128(sum),
							 _mm256_extracti128_si256(sum, 1));
		half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
		differences[i] = (uint32_t) _mm_cvtsi128_si32(half);
	}
}

/* What _mm256_shuffle_ps has taken from eight pairs */
AVX2_INLINE __m256
avx2_in_order(__m256 v)
{
	return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), _MM_SHUFFLE(3, 1, 2, 0)));
}

/* Returns whether lengths are within the range */
AVX2_INLINE bool
avx2_bounds8(const uint32_t *differences, const float *heads,
			 const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	__m256		four = _mm256_loadu_ps(heads);	/* of rows 0 to 3 */
	__m256		more = _mm256_loadu_ps(heads + 8);
	__m256		one = _mm256_set1_ps(1);
	__m256		floor = _mm256_set1_ps(terms->floor);
	__m256		norm = avx2_in_order(_mm256_shuffle_ps(four, more, _MM_SHUFFLE(2, 0, 2, 0)));
	__m256		align = avx2_in_order(_mm256_shuffle_ps(four, more, _MM_SHUFFLE(3, 1, 3, 1)));

	/* counts are far below 2^31 */
	__m256		sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *) differences));
	__m256		valid = _mm256_and_ps(
		_mm256_and_ps(_mm256_cmp_ps(norm, _mm256_setzero_ps(), _CMP_GE_OQ),
					  _mm256_cmp_ps(norm, _mm256_set1_ps(FLT_MAX), _CMP_LE_OQ)),
		_mm256_and_ps(_mm256_cmp_ps(align, _mm256_setzero_ps(), _CMP_GT_OQ),
					  _mm256_cmp_ps(align, one, _CMP_LE_OQ)));
	__m256		a = _mm256_fmadd_ps(_mm256_set1_ps(terms->factor), sum,
									_mm256_set1_ps(terms->offset));
	__m256		deviation = _mm256_sqrt_ps(
		_mm256_fmadd_ps(_mm256_set1_ps(terms->spread), _mm256_fnmadd_ps(align, align, one),
						_mm256_set1_ps(terms->rounding)));
	__m256		inverse = _mm256_div_ps(one, align);
	__m256		most = _mm256_min_ps(
		_mm256_mul_ps(_mm256_fmadd_ps(_mm256_set1_ps(terms->epsilon), deviation, a), inverse),
		_mm256_set1_ps(terms->span));
	__m256		fixed = _mm256_fmadd_ps(_mm256_set1_ps(terms->square),
										_mm256_mul_ps(norm, norm),
										_mm256_set1_ps(terms->base));
	__m256		slack = _mm256_fmadd_ps(_mm256_fmadd_ps(_mm256_set1_ps(terms->slack2), norm,
														_mm256_set1_ps(terms->slack1)),
										norm, _mm256_set1_ps(terms->slack0));
	__m256		step = _mm256_mul_ps(_mm256_set1_ps(terms->twice), norm);
	__m256		score = _mm256_fmadd_ps(step, _mm256_mul_ps(a, inverse), fixed);
	__m256		least = _mm256_max_ps(_mm256_sub_ps(_mm256_fmadd_ps(step, most, fixed), slack),
									  floor);

	_mm256_storeu_ps(estimate, _mm256_blendv_ps(_mm256_set1_ps(terms->unknown), score, valid));
	_mm256_storeu_ps(lower, _mm256_blendv_ps(floor, least, valid));
	return _mm256_testz_ps(valid, _mm256_cmp_ps(norm, _mm256_set1_ps(WINNOW_LARGE_LENGTH), _CMP_GT_OQ));
}

AVX2 static bool
avx2_code_bounds(const uint32_t *differences, const float *heads, int n, const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	bool		within = true;
	int			i = 0;

	for (; i + 8 <= n; i += 8)
		within &= avx2_bounds8(differences + i, heads + 2 * i, terms, estimate + i, lower + i);
	if (i < n)
	{
		size_t		bytes = (size_t) (n - i) * 4;
		uint32_t	sum[8] = {0};
		float		head[16] = {0};
		float		score[8];
		float		least[8];

		memcpy(sum, differences + i, bytes);
		memcpy(head, heads + 2 * i, 2 * bytes);
		within &= avx2_bounds8(sum, head, terms, score, least);
		memcpy(estimate + i, score, bytes);
		memcpy(lower + i, least, bytes);
	}
	return within;
}

AVX2_INLINE void
avx2_butterfly(float *v, int half)
{
	__m256		a = _mm256_loadu_ps(v);
	__m256		b = _mm256_loadu_ps(v + half);

	_mm256_storeu_ps(v, _mm256_add_ps(a, b));
	_mm256_storeu_ps(v + half, _mm256_sub_ps(a, b));
}

/* The first three levels, within a register. */
AVX2_INLINE __m256
avx2_hadamard8(__m256 v)
{
	__m256		other;

	/* lane pairs (a, b): b + a and a - b, that is other + v * (1, -1) */
	other = _mm256_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1));
	v = _mm256_fmadd_ps(v, _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), other);
	other = _mm256_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2));
	v = _mm256_fmadd_ps(v, _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1), other);
	other = _mm256_permute2f128_ps(v, v, 1);
	return _mm256_fmadd_ps(v, _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1), other);
}

AVX2 static void
avx2_hadamard(float *v, int n)
{
	if (n < 8)
	{
		winnow_kernels_scalar.hadamard(v, n);
		return;
	}
	for (int i = 0; i < n; i += 8)
		_mm256_storeu_ps(v + i, avx2_hadamard8(_mm256_loadu_ps(v + i)));
	for (int half = 8; half < n; half *= 2)
		for (int start = 0; start < n; start += 2 * half)
			for (int i = start; i < start + half; i += 8)
				avx2_butterfly(v + i, half);
}

AVX2_INLINE void
avx2_planes64(const float *v, float low, float inv_step, uint64_t out[4])
{
	for (int i = 0; i < 64; i += 8)
	{
		__m256		x = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(v + i),
													_mm256_set1_ps(low)),
									  _mm256_set1_ps(inv_step));
		__m256i		u;

		/* max gives its second operand for NaN */
		x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()),
						  _mm256_set1_ps(15));
		u = _mm256_slli_epi32(_mm256_cvtps_epi32(x), 28);
		for (int p = 3; p >= 0; p--)
		{
			out[p] |= (uint64_t) _mm256_movemask_ps(_mm256_castsi256_ps(u)) << i;
			u = _mm256_add_epi32(u, u);
		}
	}
}

AVX2_INLINE uint64_t
avx2_greater64(const float *a, const float *b)
{
	uint64_t	bits = 0;

	for (int i = 0; i < 64; i += 8)
		bits |= (uint64_t)
					_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(a + i),
													 _mm256_loadu_ps(b + i), _CMP_GT_OQ))
				<< i;
	return bits;
}

AVX2_INLINE __m256i
avx2_load(const unsigned char *rows)
{
	return _mm256_loadu_si256((const __m256i *) rows);
}

AVX2_INLINE uint64_t
avx2_keep_int8(const unsigned char *rows, int8_t low, int8_t high)
{
	__m256i		l = _mm256_set1_epi8(low);
	__m256i		h = _mm256_set1_epi8(high);
	uint64_t	drop = 0;

	for (int i = 0; i < 64; i += 32)
	{
		__m256i		v = avx2_load(rows + i);
		__m256i		outside = _mm256_or_si256(_mm256_cmpgt_epi8(l, v),
											  _mm256_cmpgt_epi8(v, h));

		drop |= (uint64_t) (uint32_t) _mm256_movemask_epi8(outside) << i;
	}
	return ~drop;
}

AVX2_INLINE uint64_t
avx2_keep_int16(const unsigned char *rows, int16_t low, int16_t high)
{
	__m256i		l = _mm256_set1_epi16(low);
	__m256i		h = _mm256_set1_epi16(high);
	uint64_t	drop = 0;

	for (int i = 0; i < 64; i += 32)
	{
		__m256i		v0 = avx2_load(rows + i * 2);
		__m256i		v1 = avx2_load(rows + i * 2 + 32);
		__m256i		outside = _mm256_packs_epi16(_mm256_or_si256(_mm256_cmpgt_epi16(l, v0),
																 _mm256_cmpgt_epi16(v0, h)),
												 _mm256_or_si256(_mm256_cmpgt_epi16(l, v1),
																 _mm256_cmpgt_epi16(v1, h)));

		/* packs works within halves: put the quarters back in order */
		outside = _mm256_permute4x64_epi64(outside, _MM_SHUFFLE(3, 1, 2, 0));
		drop |= (uint64_t) (uint32_t) _mm256_movemask_epi8(outside) << i;
	}
	return ~drop;
}

AVX2_INLINE uint64_t
avx2_keep_int32(const unsigned char *rows, int32_t low, int32_t high)
{
	__m256i		l = _mm256_set1_epi32(low);
	__m256i		h = _mm256_set1_epi32(high);
	uint64_t	drop = 0;

	for (int i = 0; i < 64; i += 8)
	{
		__m256i		v = avx2_load(rows + i * 4);
		__m256i		outside = _mm256_or_si256(_mm256_cmpgt_epi32(l, v),
											  _mm256_cmpgt_epi32(v, h));

		drop |= (uint64_t) _mm256_movemask_ps(_mm256_castsi256_ps(outside)) << i;
	}
	return ~drop;
}

AVX2_INLINE uint64_t
avx2_keep_int64(const unsigned char *rows, int64_t low, int64_t high)
{
	__m256i		l = _mm256_set1_epi64x(low);
	__m256i		h = _mm256_set1_epi64x(high);
	uint64_t	drop = 0;

	for (int i = 0; i < 64; i += 4)
	{
		__m256i		v = avx2_load(rows + i * 8);
		__m256i		outside = _mm256_or_si256(_mm256_cmpgt_epi64(l, v),
											  _mm256_cmpgt_epi64(v, h));

		drop |= (uint64_t) _mm256_movemask_pd(_mm256_castsi256_pd(outside)) << i;
	}
	return ~drop;
}

AVX2_INLINE uint64_t
avx2_keep_bits(const unsigned char *rows, uint8_t bits)
{
	__m256i		wanted = _mm256_set1_epi8((char) bits);
	uint64_t	none = 0;

	for (int i = 0; i < 64; i += 32)
	{
		__m256i		zero = _mm256_cmpeq_epi8(_mm256_and_si256(avx2_load(rows + i), wanted),
											 _mm256_setzero_si256());

		none |= (uint64_t) (uint32_t) _mm256_movemask_epi8(zero) << i;
	}
	return ~none;
}

AVX2_INLINE uint64_t
avx2_keep_signature(const unsigned char *rows, uint64_t need0, uint64_t need1)
{
	__m256i		need = _mm256_setr_epi64x((long long) need0, (long long) need1,
										  (long long) need0, (long long) need1);
	uint64_t	keep = 0;

	for (int i = 0; i < 64; i += 2)
	{
		__m256i		has = _mm256_cmpeq_epi64(_mm256_and_si256(avx2_load(rows + i * 16), need),
											 need);
		int			both = _mm256_movemask_pd(_mm256_castsi256_pd(has));

		keep |= (uint64_t) ((both & 3) == 3) << i;
		keep |= (uint64_t) ((both & 12) == 12) << (i + 1);
	}
	return keep;
}

WINNOW_BLOCK_KERNELS(AVX2, avx2)

const WinnowKernels winnow_kernels_avx2 = {
	.level = WINNOW_SIMD_AVX2,
	.name = "avx2",
	.code_differences = avx2_code_differences,
	WINNOW_KERNEL_MEMBERS(avx2)};

#endif							/* WINNOW_HAVE_X86 */
