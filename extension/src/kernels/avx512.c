/*
 * avx512.c
 *		Kernels for x86-64 with AVX-512 F, BW, DQ and VL; and code_differences once
 *		more with VPOPCNTDQ, which counts the bits of 64-bit lanes directly.
 *
 * Sums of floats use four accumulators of sixteen lanes.  Tails are masked
 * loads, which touch no memory behind the vector.  Counting bits without
 * VPOPCNTDQ works as in avx2.c.
 */
#include "internal.h"

#ifdef WINNOW_HAVE_X86

#include <immintrin.h>

#define AVX512 \
	__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")))
#define AVX512_INLINE AVX512 static inline __attribute__((always_inline))
#define AVX512_VPOPCNT \
	__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma,popcnt")))

/* The first n of 16 lanes; n may be 0 or less and 16 or more. */
AVX512_INLINE __mmask16
avx512_first16(int n)
{
	return n >= 16 ? 0xFFFF : n <= 0 ? 0 :
									   (__mmask16) ((1u << n) - 1);
}

AVX512_INLINE __mmask8
avx512_first8(int n)
{
	return n >= 8 ? 0xFF : (__mmask8) ((1u << n) - 1);
}

AVX512_INLINE float
avx512_sum4(const __m512 s[4])
{
	return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]),
											  _mm512_add_ps(s[2], s[3])));
}

AVX512_INLINE __m512
avx512_add_square(__m512 a, __m512 b, __m512 sum)
{
	__m512		d = _mm512_sub_ps(a, b);

	return _mm512_fmadd_ps(d, d, sum);
}

AVX512_INLINE __m512
avx512_add_absolute(__m512 a, __m512 b, __m512 sum)
{
	return _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(a, b)));
}

/* As AVX2_PAIR_SUM of avx2.c, sixteen terms at a time. */
#define AVX512_PAIR_SUM(name, ADD) \
AVX512 static float \
name(const float *a, const float *b, int dim) \
{ \
	__m512		s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), \
						_mm512_setzero_ps(), _mm512_setzero_ps()}; \
	int			i = 0; \
	for (; i + 64 <= dim; i += 64) \
	{ \
		s[0] = ADD(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s[0]); \
		s[1] = ADD(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s[1]); \
		s[2] = ADD(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s[2]); \
		s[3] = ADD(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s[3]); \
	} \
	for (; i + 16 <= dim; i += 16) \
		s[0] = ADD(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s[0]); \
	if (i < dim) \
	{ \
		__mmask16	tail = avx512_first16(dim - i); \
		s[1] = ADD(_mm512_maskz_loadu_ps(tail, a + i), \
				   _mm512_maskz_loadu_ps(tail, b + i), s[1]); \
	} \
	return avx512_sum4(s); \
}

AVX512_PAIR_SUM(avx512_l2_squared, avx512_add_square)
AVX512_PAIR_SUM(avx512_inner_product, _mm512_fmadd_ps)
AVX512_PAIR_SUM(avx512_l1, avx512_add_absolute)

AVX512 static void
avx512_cosine_terms(const float *a, const float *b, int dim,
					float *ab, float *aa, float *bb)
{
	__m512		s[6];

	for (int j = 0; j < 6; j++)
		s[j] = _mm512_setzero_ps();
	for (int i = 0; i < dim; i += 32)
	{
		__mmask16	first = avx512_first16(dim - i);
		__mmask16	second = avx512_first16(dim - i - 16);
		__m512		a0 = _mm512_maskz_loadu_ps(first, a + i);
		__m512		b0 = _mm512_maskz_loadu_ps(first, b + i);
		__m512		a1 = _mm512_maskz_loadu_ps(second, a + i + 16);
		__m512		b1 = _mm512_maskz_loadu_ps(second, b + i + 16);

		s[0] = _mm512_fmadd_ps(a0, b0, s[0]);
		s[1] = _mm512_fmadd_ps(a0, a0, s[1]);
		s[2] = _mm512_fmadd_ps(b0, b0, s[2]);
		s[3] = _mm512_fmadd_ps(a1, b1, s[3]);
		s[4] = _mm512_fmadd_ps(a1, a1, s[4]);
		s[5] = _mm512_fmadd_ps(b1, b1, s[5]);
	}
	*ab = _mm512_reduce_add_ps(_mm512_add_ps(s[0], s[3]));
	*aa = _mm512_reduce_add_ps(_mm512_add_ps(s[1], s[4]));
	*bb = _mm512_reduce_add_ps(_mm512_add_ps(s[2], s[5]));
}

AVX512 static void
avx512_l2_squared_many(const float *query, const float *base,
					   size_t stride_floats, int count, int dim, float *out)
{
	int			row = 0;

	/* four rows at a time share the loads of the query */
	for (; row + 4 <= count; row += 4)
	{
		const float *b = base + row * stride_floats;
		__m512		s[4];
		int			i = 0;

		for (int j = 0; j < 4; j++)
			s[j] = _mm512_setzero_ps();
		for (; i + 16 <= dim; i += 16)
		{
			__m512		q = _mm512_loadu_ps(query + i);

			for (int j = 0; j < 4; j++)
				s[j] = avx512_add_square(q, _mm512_loadu_ps(b + j * stride_floats + i),
										 s[j]);
		}
		if (i < dim)
		{
			__mmask16	tail = avx512_first16(dim - i);
			__m512		q = _mm512_maskz_loadu_ps(tail, query + i);

			for (int j = 0; j < 4; j++)
				s[j] = avx512_add_square(q,
										 _mm512_maskz_loadu_ps(tail,
															   b + j * stride_floats + i),
										 s[j]);
		}
		for (int j = 0; j < 4; j++)
			out[row + j] = _mm512_reduce_add_ps(s[j]);
	}
	for (; row < count; row++)
		out[row] = avx512_l2_squared(query, base + row * stride_floats, dim);
}

AVX512 static float
avx512_residual(const float *a, const float *b, int dim,
				float *out, float *low, float *high)
{
	__m512		smallest = _mm512_set1_ps(__builtin_inff());
	__m512		largest = _mm512_set1_ps(-__builtin_inff());

	for (int i = 0; i < dim; i += 16)
	{
		__mmask16	some = avx512_first16(dim - i);
		__m512		d = _mm512_sub_ps(_mm512_maskz_loadu_ps(some, a + i),
									  _mm512_maskz_loadu_ps(some, b + i));

		_mm512_mask_storeu_ps(out + i, some, d);
		smallest = _mm512_mask_min_ps(smallest, some, d, smallest);
		largest = _mm512_mask_max_ps(largest, some, d, largest);
	}
	*low = _mm512_reduce_min_ps(smallest);
	*high = _mm512_reduce_max_ps(largest);
	return avx512_inner_product(out, out, dim);
}

/* Per byte: the bits set, as table[nibble] of both nibbles. */
AVX512_INLINE __m512i
avx512_count(__m512i v, __m512i table)
{
	__m512i		nibble = _mm512_set1_epi8(15);

	return _mm512_add_epi8(_mm512_shuffle_epi8(table, _mm512_and_si512(v, nibble)),
						   _mm512_shuffle_epi8(table,
											   _mm512_and_si512(_mm512_srli_epi16(v, 4),
																nibble)));
}

AVX512 static void
avx512_code_differences(const uint8_t *codes, size_t stride, const uint16_t *rows,
						int nrows, const uint64_t *planes, int nwords,
						uint32_t *differences)
{
	__m512i		table[4];

	/* half a vector takes as long as a whole one */
	if (nwords <= 4)
	{
		winnow_kernels_avx2.code_differences(codes, stride, rows, nrows, planes, nwords, differences);
		return;
	}
	table[0] = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3,
													1, 2, 2, 3, 2, 3, 3, 4));
	for (int p = 1; p < 4; p++)
		table[p] = _mm512_add_epi8(table[p - 1], table[p - 1]);

	for (int i = 0; i < nrows; i++)
	{
		const uint8_t *code = codes + (size_t) rows[i] * stride;
		__m512i		sum = _mm512_setzero_si512();

		WINNOW_PREFETCH_CODE(codes, stride, rows, i, nrows);
		for (int w = 0; w < nwords; w += 8)
		{
			__mmask8	some = avx512_first8(nwords - w);
			__m512i		word = _mm512_maskz_loadu_epi64(some, code + (size_t) w * 8);
			__m512i		count = _mm512_setzero_si512();

			for (int p = 0; p < 4; p++)
			{
				__m512i		plane = _mm512_maskz_loadu_epi64(some, planes +
															 (size_t) p * nwords + w);

				count = _mm512_add_epi8(count,
										avx512_count(_mm512_xor_si512(word, plane),
													 table[p]));
			}
			sum = _mm512_add_epi64(sum, _mm512_sad_epu8(count, _mm512_setzero_si512()));
		}
		differences[i] = (uint32_t) _mm512_reduce_add_epi64(sum);
	}
}

/* Weighted bits in which eight words of codes differ from the query's */
AVX512_VPOPCNT static inline __attribute__((always_inline)) __m512i
avx512_vpopcnt_words(__m512i word, const __m512i plane[4])
{
	__m512i		sum = _mm512_popcnt_epi64(_mm512_xor_si512(word, plane[3]));

	for (int p = 2; p >= 0; p--)
		sum = _mm512_add_epi64(_mm512_add_epi64(sum, sum), _mm512_popcnt_epi64(_mm512_xor_si512(word, plane[p])));
	return sum;
}

/*
 * Codes lie in slots of 2, 4 or 8 words, so a vector has 8 / slot of eight rows, in the order that
 * avx512_vpopcnt_sums needs: the row in a part of a vector.
 */
AVX512_VPOPCNT static inline __attribute__((always_inline)) int
avx512_row_in(int vector, int part, int slot)
{
	return slot == 8 ? vector : slot == 4 ? vector / 2 * 4 + vector % 2 + part * 2 :
											part * 2 + vector;
}

/* The sums of the slots of eight rows, in the rows' order */
AVX512_VPOPCNT static inline __attribute__((always_inline)) __m512i
avx512_vpopcnt_sums(const __m512i v[8], int slot)
{
	__m512i		pairs[4];		/* in each 128 bits, sums for two of the vectors */
	__m512i		halves[2];

	for (int i = 0; i < slot / 2; i++)
		pairs[i] = _mm512_add_epi64(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]),
									_mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
	if (slot == 2)
		return pairs[0];
	for (int i = 0; i < slot / 4; i++)
		halves[i] = _mm512_add_epi64(_mm512_shuffle_i64x2(pairs[2 * i], pairs[2 * i + 1], 0x88),
									 _mm512_shuffle_i64x2(pairs[2 * i], pairs[2 * i + 1], 0xDD));
	if (slot == 4)
		return halves[0];
	return _mm512_add_epi64(_mm512_shuffle_i64x2(halves[0], halves[1], 0x88),
							_mm512_shuffle_i64x2(halves[0], halves[1], 0xDD));
}

/* The differences of eight rows; if codes are longer than a slot, that has eight words */
AVX512_VPOPCNT static inline __attribute__((always_inline)) __m512i
avx512_vpopcnt_eight(const uint8_t *const code[8], const uint64_t *planes, int nwords,
					 const __m512i first[4], int slot)
{
	__mmask8	some = avx512_first8(nwords);
	__m512i		sum[8];

	for (int v = 0; v < slot; v++)
	{
		__m512i		word = _mm512_setzero_si512();

		/* what is in front of a code is masked out */
		for (int part = 0; part < 8 / slot; part++)
			word = _mm512_mask_loadu_epi64(word, (__mmask8) (some << part * slot),
										   code[avx512_row_in(v, part, slot)] - part * slot * 8);
		sum[v] = avx512_vpopcnt_words(word, first);
	}
	for (int w = 8; w < nwords; w += 8)
	{
		__mmask8	rest = avx512_first8(nwords - w);
		__m512i		plane[4];

		for (int p = 0; p < 4; p++)
			plane[p] = _mm512_maskz_loadu_epi64(rest, planes + (size_t) p * nwords + w);
		for (int v = 0; v < 8; v++)
			sum[v] = _mm512_add_epi64(sum[v], avx512_vpopcnt_words(
										  _mm512_maskz_loadu_epi64(rest, code[v] + (size_t) w * 8), plane));
	}
	return avx512_vpopcnt_sums(sum, slot);
}

AVX512_VPOPCNT static inline __attribute__((always_inline)) void
avx512_vpopcnt_slots(const uint8_t *codes, size_t stride, const uint16_t *rows, int nrows,
					 const uint64_t *planes, int nwords, uint32_t *differences, int slot)
{
	__mmask8	some = avx512_first8(nwords);
	__m512i		plane[4];		/* the first eight words, or all of them for each part */

	for (int p = 0; p < 4; p++)
	{
		plane[p] = _mm512_maskz_loadu_epi64(some, planes + (size_t) p * nwords);
		if (slot == 4)
			plane[p] = _mm512_shuffle_i64x2(plane[p], plane[p], 0x44);
		else if (slot == 2)
			plane[p] = _mm512_shuffle_i64x2(plane[p], plane[p], 0);
	}
	for (int i = 0; i < nrows; i += 8)
	{
		int			n = nrows - i < 8 ? nrows - i : 8;
		const uint8_t *code[8];
		__m512i		total;

		for (int j = 0; j < 8; j++)
		{
			/* the last row once more where there are no eight */
			code[j] = codes + (size_t) rows[i + (j < n ? j : n - 1)] * stride;
			WINNOW_PREFETCH_CODE(codes, stride, rows, i + j, nrows);
		}
		total = avx512_vpopcnt_eight(code, planes, nwords, plane, slot);
		_mm256_mask_storeu_epi32(differences + i, avx512_first8(n), _mm512_cvtepi64_epi32(total));
	}
}

/* Short codes share a vector */
AVX512_VPOPCNT static void
avx512_vpopcnt_code_differences(const uint8_t *codes, size_t stride,
								const uint16_t *rows, int nrows,
								const uint64_t *planes, int nwords,
								uint32_t *differences)
{
	if (nwords <= 2)
		avx512_vpopcnt_slots(codes, stride, rows, nrows, planes, nwords, differences, 2);
	else if (nwords <= 4)
		avx512_vpopcnt_slots(codes, stride, rows, nrows, planes, nwords, differences, 4);
	else
		avx512_vpopcnt_slots(codes, stride, rows, nrows, planes, nwords, differences, 8);
}

AVX512 static bool
avx512_code_bounds(const uint32_t *differences, const float *heads, int n, const WinnowBoundTerms *terms, float *estimate, float *lower)
{
	__m512i		even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	__m512i		odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
	__mmask16	beyond = 0;
	__m512		one = _mm512_set1_ps(1);
	__m512		twice = _mm512_set1_ps(terms->twice);
	__m512		floor = _mm512_set1_ps(terms->floor);

	for (int i = 0; i < n; i += 16)
	{
		__mmask16	some = avx512_first16(n - i);
		__m512		eight = _mm512_maskz_loadu_ps(avx512_first16(2 * (n - i)), heads + 2 * i);
		__m512		more = _mm512_maskz_loadu_ps(avx512_first16(2 * (n - i) - 16), heads + 2 * i + 16);
		__m512		norm = _mm512_permutex2var_ps(eight, even, more);
		__m512		align = _mm512_permutex2var_ps(eight, odd, more);
		__m512		sum = _mm512_cvtepu32_ps(_mm512_maskz_loadu_epi32(some, differences + i));
		__mmask16	valid = _mm512_cmp_ps_mask(norm, _mm512_setzero_ps(), _CMP_GE_OQ) &
			_mm512_cmp_ps_mask(norm, _mm512_set1_ps(FLT_MAX), _CMP_LE_OQ) &
			_mm512_cmp_ps_mask(align, _mm512_setzero_ps(), _CMP_GT_OQ) &
			_mm512_cmp_ps_mask(align, one, _CMP_LE_OQ);
		__m512		a = _mm512_fmadd_ps(_mm512_set1_ps(terms->factor), sum,
										_mm512_set1_ps(terms->offset));
		__m512		deviation = _mm512_sqrt_ps(
			_mm512_fmadd_ps(_mm512_set1_ps(terms->spread),
							_mm512_fnmadd_ps(align, align, one),
							_mm512_set1_ps(terms->rounding)));
		__m512		inverse = _mm512_div_ps(one, align);
		__m512		most = _mm512_min_ps(
			_mm512_mul_ps(_mm512_fmadd_ps(_mm512_set1_ps(terms->epsilon), deviation, a), inverse),
			_mm512_set1_ps(terms->span));
		__m512		fixed = _mm512_fmadd_ps(_mm512_set1_ps(terms->square),
											_mm512_mul_ps(norm, norm),
											_mm512_set1_ps(terms->base));
		__m512		slack = _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_set1_ps(terms->slack2), norm,
															_mm512_set1_ps(terms->slack1)),
											norm, _mm512_set1_ps(terms->slack0));
		__m512		step = _mm512_mul_ps(twice, norm);
		__m512		score = _mm512_fmadd_ps(step, _mm512_mul_ps(a, inverse), fixed);
		__m512		least = _mm512_sub_ps(_mm512_fmadd_ps(step, most, fixed), slack);

		score = _mm512_mask_blend_ps(valid, _mm512_set1_ps(terms->unknown), score);
		least = _mm512_mask_blend_ps(valid, floor, _mm512_max_ps(least, floor));
		_mm512_mask_storeu_ps(estimate + i, some, score);
		_mm512_mask_storeu_ps(lower + i, some, least);
		beyond |= _mm512_mask_cmp_ps_mask(valid, norm, _mm512_set1_ps(WINNOW_LARGE_LENGTH), _CMP_GT_OQ);
	}
	return beyond == 0;
}

AVX512_INLINE void
avx512_butterfly(float *v, int half)
{
	__m512		a = _mm512_loadu_ps(v);
	__m512		b = _mm512_loadu_ps(v + half);

	_mm512_storeu_ps(v, _mm512_add_ps(a, b));
	_mm512_storeu_ps(v + half, _mm512_sub_ps(a, b));
}

/* The first four levels, within a register: other + v, other - v by lane. */
AVX512_INLINE __m512
avx512_hadamard16(__m512 v)
{
	__m512		other;

	other = _mm512_permute_ps(v, _MM_SHUFFLE(2, 3, 0, 1));
	v = _mm512_mask_sub_ps(_mm512_add_ps(other, v), 0xAAAA, other, v);
	other = _mm512_permute_ps(v, _MM_SHUFFLE(1, 0, 3, 2));
	v = _mm512_mask_sub_ps(_mm512_add_ps(other, v), 0xCCCC, other, v);
	other = _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(2, 3, 0, 1));
	v = _mm512_mask_sub_ps(_mm512_add_ps(other, v), 0xF0F0, other, v);
	other = _mm512_shuffle_f32x4(v, v, _MM_SHUFFLE(1, 0, 3, 2));
	return _mm512_mask_sub_ps(_mm512_add_ps(other, v), 0xFF00, other, v);
}

AVX512 static void
avx512_hadamard(float *v, int n)
{
	if (n < 16)
	{
		winnow_kernels_scalar.hadamard(v, n);
		return;
	}
	for (int i = 0; i < n; i += 16)
		_mm512_storeu_ps(v + i, avx512_hadamard16(_mm512_loadu_ps(v + i)));
	for (int half = 16; half < n; half *= 2)
		for (int start = 0; start < n; start += 2 * half)
			for (int i = start; i < start + half; i += 16)
				avx512_butterfly(v + i, half);
}

AVX512_INLINE void
avx512_planes64(const float *v, float low, float inv_step, uint64_t out[4])
{
	for (int i = 0; i < 64; i += 16)
	{
		__m512		x = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(v + i),
													_mm512_set1_ps(low)),
									  _mm512_set1_ps(inv_step));
		__m512i		u;

		/* max gives its second operand for NaN */
		x = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()),
						  _mm512_set1_ps(15));
		u = _mm512_cvtps_epi32(x);
		for (int p = 0; p < 4; p++)
			out[p] |= (uint64_t)
						  _mm512_test_epi32_mask(u, _mm512_set1_epi32(1 << p))
					  << i;
	}
}

AVX512_INLINE uint64_t
avx512_greater64(const float *a, const float *b)
{
	uint64_t	bits = 0;

	for (int i = 0; i < 64; i += 16)
		bits |= (uint64_t) _mm512_cmp_ps_mask(_mm512_loadu_ps(a + i),
											  _mm512_loadu_ps(b + i), _CMP_GT_OQ)
				<< i;
	return bits;
}

/* low <= v <= high over vectors of `lanes` integers of `bits` bits */
#define AVX512_KEEP_INT(bits, lanes, SET1) \
AVX512_INLINE uint64_t \
avx512_keep_int##bits(const unsigned char *rows, int##bits##_t low, \
					  int##bits##_t high) \
{ \
	__m512i		l = SET1(low); \
	__m512i		h = SET1(high); \
	uint64_t	keep = 0; \
	for (int i = 0; i < 64; i += lanes) \
	{ \
		__m512i		v = _mm512_loadu_si512(rows + i * (bits / 8)); \
		keep |= (uint64_t) \
			_mm512_mask_cmple_epi##bits##_mask(_mm512_cmple_epi##bits##_mask(l, v), \
														   v, h) \
					<< i; \
	} \
	return keep; \
}

AVX512_KEEP_INT(8, 64, _mm512_set1_epi8)
AVX512_KEEP_INT(16, 32, _mm512_set1_epi16)
AVX512_KEEP_INT(32, 16, _mm512_set1_epi32)
AVX512_KEEP_INT(64, 8, _mm512_set1_epi64)

AVX512_INLINE uint64_t
avx512_keep_bits(const unsigned char *rows, uint8_t bits)
{
	return _mm512_test_epi8_mask(_mm512_loadu_si512(rows),
								 _mm512_set1_epi8((char) bits));
}

AVX512_INLINE uint64_t
avx512_keep_signature(const unsigned char *rows, uint64_t need0,
					  uint64_t need1)
{
	__m512i		need = _mm512_broadcast_i64x2(_mm_set_epi64x((long long) need1,
															 (long long) need0));
	uint64_t	keep = 0;

	for (int i = 0; i < 64; i += 8)
	{
		/* one bit per uint64: rows i .. i + 3 in has0, the next four in has1 */
		__m512i		v0 = _mm512_and_si512(_mm512_loadu_si512(rows + i * 16), need);
		__m512i		v1 = _mm512_and_si512(_mm512_loadu_si512(rows + i * 16 + 64), need);
		uint32_t	has0 = _mm512_cmpeq_epi64_mask(v0, need);
		uint32_t	has1 = _mm512_cmpeq_epi64_mask(v1, need);
		uint32_t	has = has0 | has1 << 8;

		has &= has >> 1;		/* both words of a row, in its even bit */
		for (int row = 0; row < 8; row++)
			keep |= (uint64_t) (has >> (2 * row) & 1) << (i + row);
	}
	return keep;
}

WINNOW_BLOCK_KERNELS(AVX512, avx512)

const WinnowKernels winnow_kernels_avx512 = {
	.level = WINNOW_SIMD_AVX512,
	.name = "avx512",
	.code_differences = avx512_code_differences,
	WINNOW_KERNEL_MEMBERS(avx512)};

const WinnowKernels winnow_kernels_avx512_vpopcnt = {
	.level = WINNOW_SIMD_AVX512_VPOPCNT,
	.name = "avx512_vpopcnt",
	.code_differences = avx512_vpopcnt_code_differences,
	WINNOW_KERNEL_MEMBERS(avx512)};

#endif							/* WINNOW_HAVE_X86 */
