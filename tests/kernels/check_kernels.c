/*
 * check_kernels.c
 *		Compare every SIMD level that this machine has with plain C.
 *
 * A program of its own, so that it also runs under an emulator and under
 * sanitizers, without Python:
 *
 *		cc -O2 tests/kernels/check_kernels.c extension/src/kernels/?*.c -lm
 *
 * Prints the levels checked, and exits non-zero at the first difference.
 * Integers, bits and the Hadamard transform must be equal; sums of floats must
 * be within WINNOW_SUM_ERROR of the sum in double precision.  Every input ends
 * right before a page that cannot be read, so that a kernel that reads too far
 * crashes.  WINNOW_SEED in the environment repeats a run.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../../extension/src/core/random.h"
#include "../../extension/src/kernels/kernels.h"

#define MAX_DIM 16000
#define MAX_ROWS 1000

static uint64_t seed;
static uint64_t state;
static const WinnowKernels *scalar;

#define CHECK(condition, ...) \
	do \
	{ \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s differs: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__); \
			fprintf(stderr, " (WINNOW_SEED=%llu)\n", (unsigned long long) seed); \
			exit(1); \
		} \
	} while (0)

/* Memory that ends where reading on is a fault. */
typedef struct Guarded
{
	unsigned char *end;
} Guarded;

static Guarded
guarded(size_t bytes)
{
	size_t		page = (size_t) sysconf(_SC_PAGESIZE);
	size_t		size = (bytes + page - 1) / page * page + page;
	unsigned char *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE,
								 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	Guarded		result;

	if (memory == MAP_FAILED || mprotect(memory + size, page, PROT_NONE) != 0)
	{
		perror("mmap");
		exit(2);
	}
	result.end = memory + size;
	return result;
}

static float
random_float(void)
{
	return (float) (winnow_random_unit(&state) * 2 - 1);
}

/* `count` random floats at the end of guarded memory. */
static float *
random_floats(Guarded memory, int count)
{
	float	   *v = (float *) memory.end - count;

	for (int i = 0; i < count; i++)
		v[i] = random_float();
	return v;
}

static void
check_near(const WinnowKernels *k, const char *what, int dim, double got,
		   double want, double terms)
{
	CHECK(fabs(got - want) <= WINNOW_SUM_ERROR(dim) * terms,
		  "%s %s, dim %d: %.9g, not %.9g", k->name, what, dim, got, want);
}

static void
check_sums(const WinnowKernels *k, Guarded ma, Guarded mb, int dim)
{
	float	   *a = random_floats(ma, dim);
	float	   *b = random_floats(mb, dim);
	double		square = 0;
	double		absolute = 0;
	double		product = 0;
	double		terms = 0;
	double		aa = 0;
	double		bb = 0;
	float		got[3];

	for (int i = 0; i < dim; i++)
	{
		double		d = (double) a[i] - b[i];

		square += d * d;
		absolute += fabs(d);
		product += (double) a[i] * b[i];
		terms += fabs((double) a[i] * b[i]);
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	check_near(k, "l2_squared", dim, k->l2_squared(a, b, dim), square, square);
	check_near(k, "l1", dim, k->l1(a, b, dim), absolute, absolute);
	check_near(k, "inner_product", dim, k->inner_product(a, b, dim), product, terms);
	k->cosine_terms(a, b, dim, &got[0], &got[1], &got[2]);
	check_near(k, "cosine ab", dim, got[0], product, terms);
	check_near(k, "cosine aa", dim, got[1], aa, aa);
	check_near(k, "cosine bb", dim, got[2], bb, bb);
}

static void
check_many(const WinnowKernels *k, Guarded ma, Guarded mb, int dim)
{
	enum
	{
		ROWS = 7
	};
	float		out[ROWS + 1];

	for (int count = 0; count <= ROWS; count++)
	{
		size_t		stride = (size_t) dim + count % 3;
		float	   *query = random_floats(ma, dim);
		float	   *base;

		if (count > 0)
		{
			/* the last row ends at the guard */
			base = random_floats(mb, (int) ((count - 1) * stride) + dim);
		}
		else
			base = (float *) mb.end;
		out[count] = 42;
		k->l2_squared_many(query, base, stride, count, dim, out);
		CHECK(out[count] == 42, "%s l2_squared_many wrote past its end", k->name);
		for (int i = 0; i < count; i++)
		{
			double		want = 0;

			for (int j = 0; j < dim; j++)
			{
				double		d = (double) query[j] - base[i * stride + j];

				want += d * d;
			}
			check_near(k, "l2_squared_many", dim, out[i], want, want);
		}
	}
}

static void
check_residual(const WinnowKernels *k, Guarded ma, Guarded mb, Guarded mc, int dim)
{
	float	   *a = random_floats(ma, dim);
	float	   *b = random_floats(mb, dim);
	float	   *out = (float *) mc.end - dim;
	float		want[MAX_DIM];
	float		range[4];
	float		got = k->residual(a, b, dim, out, &range[0], &range[1]);

	check_near(k, "residual", dim, got,
			   scalar->residual(a, b, dim, want, &range[2], &range[3]), 2 * got);
	CHECK(memcmp(out, want, dim * sizeof(float)) == 0, "%s residual, dim %d", k->name, dim);
	CHECK(range[0] == range[2] && range[1] == range[3], "%s residual, dim %d", k->name, dim);
	/* in place */
	k->residual(a, b, dim, a, &range[0], &range[1]);
	CHECK(memcmp(a, want, dim * sizeof(float)) == 0, "%s residual, dim %d", k->name, dim);
}

static void
check_code_differences(const WinnowKernels *k, Guarded ma, Guarded mb, int dim)
{
	enum
	{
		CODES = 20
	};
	int			nwords = (dim + 63) / 64;
	size_t		stride = (size_t) nwords * 8 + winnow_random(&state) % 9;
	size_t		size = (CODES - 1) * stride + (size_t) nwords * 8;
	uint8_t    *codes = ma.end - size;
	uint64_t   *planes = (uint64_t *) mb.end - (size_t) nwords * 4;
	bool		full = dim % 3 == 0;	/* the largest sums */
	uint16_t	rows[CODES];
	uint32_t	got[CODES];
	uint32_t	want[CODES];

	for (size_t i = 0; i < size; i++)
		codes[i] = full ? 0xFF : (uint8_t) winnow_random(&state);
	for (int i = 0; i < nwords * 4; i++)
		planes[i] = full ? 0 : winnow_random(&state);
	for (int i = 0; i < CODES; i++)
		rows[i] = (uint16_t) (winnow_random(&state) % CODES);
	for (int n = 0; n <= CODES; n += 5)
	{
		k->code_differences(codes, stride, rows, n, planes, nwords, got);
		scalar->code_differences(codes, stride, rows, n, planes, nwords, want);
		for (int i = 0; i < n; i++)
			CHECK(got[i] == want[i], "%s code_differences, dim %d", k->name, dim);
	}
	if (full)
		CHECK(want[0] == 15u * 64 * nwords, "code_differences of ones and zeros, dim %d", dim);
}

static float
random_unit(void)
{
	return (float) (winnow_random(&state) >> 40) / (1 << 24);
}

static void
check_code_bounds(const WinnowKernels *k, int dim)
{
	enum
	{
		ROWS = 67
	};
	uint32_t	differences[ROWS];
	float		heads[ROWS][2];
	float		got[2][ROWS + 1];
	float		want[2][ROWS + 1];
	bool		inner = winnow_random(&state) % 2;
	WinnowBoundTerms terms = {
		.factor = -random_unit() / dim, .offset = random_unit(),
		.span = 4 * random_unit(), .epsilon = 3 * random_unit(), .spread = random_unit(),
		.rounding = random_unit() / 100, .square = inner ? 0 : 1, .base = random_unit(), .twice = inner ? -1 : -2,
		.slack0 = random_unit() / 1000, .slack1 = random_unit() / 1000, .slack2 = random_unit() / 1000,
		.floor = inner ? -INFINITY : 0, .unknown = random_unit()};

	for (int i = 0; i < ROWS; i++)
	{
		const float strange[] = {NAN, INFINITY, -1, 2, 0};
		uint64_t	kind = winnow_random(&state) % 32;
		float		t = kind >= 5 && kind < 10 ? strange[kind - 5] : 0.5f + random_unit() / 2;

		differences[i] = (uint32_t) (winnow_random(&state) % (15 * (uint64_t) dim + 1));
		heads[i][0] = kind < 5 ? strange[kind] : random_unit();
		heads[i][1] = t;
	}
	for (int n = 0; n <= ROWS; n += n < 20 ? 1 : 47)
	{
		got[0][n] = got[1][n] = 12345;
		CHECK(k->code_bounds(differences, heads[0], n, &terms, got[0], got[1]), "%s code_bounds", k->name);
		CHECK(scalar->code_bounds(differences, heads[0], n, &terms, want[0], want[1]), "scalar code_bounds");
		CHECK(got[0][n] == 12345 && got[1][n] == 12345, "%s code_bounds wrote behind row %d", k->name, n);
		for (int i = 0; i < n; i++)
			for (int j = 0; j < 2; j++)
				CHECK(got[j][i] == want[j][i] || fabsf(got[j][i] - want[j][i]) <= 1e-3f,
					  "%s code_bounds: %g is not %g, r %g t %g", k->name, got[j][i], want[j][i], heads[i][0],
					  heads[i][1]);
	}

	/* a row that is too long, wherever it is, and one that is too long but not valid */
	for (int i = 0; i < ROWS; i++)
	{
		float		r = heads[i][0];
		float		t = heads[i][1];

		heads[i][0] = 2 * WINNOW_LARGE_LENGTH;
		heads[i][1] = 0.8f;
		CHECK(!k->code_bounds(differences, heads[0], ROWS, &terms, got[0], got[1]), "%s code_bounds, long row %d",
			  k->name, i);
		CHECK(k->code_bounds(differences, heads[0], i, &terms, got[0], got[1]), "%s code_bounds, %d rows", k->name, i);
		heads[i][1] = NAN;
		CHECK(k->code_bounds(differences, heads[0], ROWS, &terms, got[0], got[1]), "%s code_bounds, row %d", k->name, i);
		heads[i][0] = r;
		heads[i][1] = t;
	}
}

static void
check_bits(const WinnowKernels *k, Guarded ma, Guarded mb, int dim)
{
	int			nwords = (dim + 63) / 64 + dim % 2; /* also a word too many */
	float	   *a = random_floats(ma, dim);
	float	   *b = random_floats(mb, dim);
	uint64_t	got[4 * (MAX_DIM / 64 + 2)];
	uint64_t	want[4 * (MAX_DIM / 64 + 2)];

	/* halves between two steps, equal values, NaN and infinities */
	for (int i = 0; i < dim; i++)
	{
		switch (winnow_random_below(&state, 20))
		{
			case 0:
				a[i] = b[i];
				break;
			case 1:
				a[i] = (float) (winnow_random_below(&state, 20) - 5) * 0.5f;
				break;
			case 2:
				a[i] = NAN;
				break;
			case 3:
				a[i] = INFINITY;
				break;
			case 4:
				a[i] = -INFINITY;
				break;
		}
	}
	k->quantize_planes(a, dim, -1, 7.5f, got, nwords);
	scalar->quantize_planes(a, dim, -1, 7.5f, want, nwords);
	CHECK(memcmp(got, want, 4 * nwords * sizeof(uint64_t)) == 0,
		  "%s quantize_planes, dim %d", k->name, dim);
	k->greater_bits(a, b, dim, got, nwords);
	scalar->greater_bits(a, b, dim, want, nwords);
	CHECK(memcmp(got, want, nwords * sizeof(uint64_t)) == 0,
		  "%s greater_bits, dim %d", k->name, dim);
	for (int i = 0; i < nwords * 64; i++)
		CHECK((want[i / 64] >> (i % 64) & 1) == (i < dim && a[i] > b[i]),
			  "greater_bits, dim %d", dim);
}

static void
check_hadamard(const WinnowKernels *k, Guarded ma)
{
	for (int n = 1; n <= 8192; n *= 2)
	{
		float	   *v = random_floats(ma, n);
		float	   *want = malloc(n * sizeof(float));

		memcpy(want, v, n * sizeof(float));
		k->hadamard(v, n);
		scalar->hadamard(want, n);
		CHECK(memcmp(v, want, n * sizeof(float)) == 0, "%s hadamard, n %d", k->name, n);
		free(want);
	}
}

static int64_t
random_bound(int width)
{
	static const int64_t special[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX,
		INT16_MIN, INT16_MAX, INT8_MIN, INT8_MAX, 0, -1, 1, 128, -129};

	if (winnow_random_below(&state, 3) == 0)
		return special[winnow_random_below(&state, sizeof(special) / sizeof(special[0]))];
	return (int64_t) winnow_random(&state) >> (64 - width * 8);
}

static void
check_range(const WinnowKernels *k, int width, const void *column, int n,
			const uint64_t *before)
{
	uint64_t	got[MAX_ROWS / 64 + 2];
	uint64_t	want[MAX_ROWS / 64 + 2];
	int64_t		low = random_bound(width);
	int64_t		high = random_bound(width);

	memcpy(got, before, sizeof(got));
	memcpy(want, before, sizeof(want));
	switch (width)
	{
		case 1:
			k->range_int8(column, n, low, high, got);
			scalar->range_int8(column, n, low, high, want);
			break;
		case 2:
			k->range_int16(column, n, low, high, got);
			scalar->range_int16(column, n, low, high, want);
			break;
		case 4:
			k->range_int32(column, n, low, high, got);
			scalar->range_int32(column, n, low, high, want);
			break;
		case 8:
			k->range_int64(column, n, low, high, got);
			scalar->range_int64(column, n, low, high, want);
			break;
	}
	CHECK(memcmp(got, want, sizeof(got)) == 0, "%s range_int%d, n %d, %lld to %lld",
		  k->name, width * 8, n, (long long) low, (long long) high);
	for (int i = 0; i < n; i++)
	{
		int64_t		value = 0;
		bool		keep;

		/* sign-extend the column's value */
		memcpy((char *) &value + (8 - width), (const char *) column + i * width, width);
		value >>= 64 - width * 8;
		keep = low <= value && value <= high && (before[i / 64] >> (i % 64) & 1);
		CHECK((want[i / 64] >> (i % 64) & 1) == keep, "scalar range_int%d, n %d", width * 8, n);
	}
}

static void
check_filters(const WinnowKernels *k, Guarded ma, int n)
{
	for (int shift = 0; shift < 2; shift++)
	{
		uint64_t	before[MAX_ROWS / 64 + 2];
		uint64_t	got[MAX_ROWS / 64 + 2];
		uint64_t	want[MAX_ROWS / 64 + 2];
		uint8_t		bits = (uint8_t) winnow_random(&state);
		uint64_t	need[2];
		uint8_t    *column;

		for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
			before[i] = winnow_random_below(&state, 4) == 0 ? 0 : winnow_random(&state);
		for (int width = 1; width <= 16; width *= 2)
		{
			column = ma.end - (size_t) n * width - shift;
			for (int i = 0; i < n * width; i++)
				column[i] = (uint8_t) winnow_random(&state);
			if (width <= 8)
				check_range(k, width, column, n, before);
		}
		/* the last column serves as flags and as signatures too */
		memcpy(got, before, sizeof(got));
		memcpy(want, before, sizeof(want));
		k->bits_uint8(column, n, bits, shift != 0, got);
		scalar->bits_uint8(column, n, bits, shift != 0, want);
		CHECK(memcmp(got, want, sizeof(got)) == 0, "%s bits_uint8, n %d", k->name, n);

		need[0] = winnow_random(&state) & winnow_random(&state) & winnow_random(&state) &
			winnow_random(&state) & winnow_random(&state);
		need[1] = UINT64_C(1) << winnow_random_below(&state, 64);
		memcpy(got, before, sizeof(got));
		memcpy(want, before, sizeof(want));
		k->signature_all(column, n, need, got);
		scalar->signature_all(column, n, need, want);
		CHECK(memcmp(got, want, sizeof(got)) == 0, "%s signature_all, n %d", k->name, n);
	}
}

static void
check_level(const WinnowKernels *k)
{
	static const int large[] = {255, 256, 257, 384, 1000, 1024, 4096, MAX_DIM};
	Guarded		ma = guarded(MAX_DIM * sizeof(float));
	Guarded		mb = guarded((MAX_DIM + 2) * sizeof(float) * 8);
	Guarded		mc = guarded(MAX_DIM * sizeof(float));

	for (int i = 1; i <= 130 + (int) (sizeof(large) / sizeof(large[0])); i++)
	{
		int			dim = i <= 130 ? i : large[i - 131];

		check_sums(k, ma, mb, dim);
		check_many(k, ma, mb, dim);
		check_residual(k, ma, mb, mc, dim);
		check_code_differences(k, ma, mb, dim);
		check_code_bounds(k, dim);
		check_bits(k, ma, mb, dim);
	}
	check_hadamard(k, ma);
	for (int n = 0; n <= 200; n++)
		check_filters(k, ma, n);
	check_filters(k, ma, MAX_ROWS);
}

int
main(void)
{
	const char *given = getenv("WINNOW_SEED");

	seed = given ? strtoull(given, NULL, 10) : (uint64_t) time(NULL);
	scalar = winnow_kernels_at(WINNOW_SIMD_SCALAR);

	CHECK(winnow_kernels == winnow_kernels_best(), "the level at load");
	for (int level = WINNOW_SIMD_SCALAR; level <= WINNOW_SIMD_AVX512_VPOPCNT; level++)
	{
		const WinnowKernels *k = winnow_kernels_at((WinnowSimd) level);

		CHECK(winnow_kernels_use((WinnowSimd) level) == (k != NULL), "level %d", level);
		CHECK((int) winnow_kernels->level <= level, "level %d", level);
		if (k == NULL)
			continue;
		CHECK(winnow_kernels == k && (int) k->level == level, "level %d", level);
		state = seed;
		check_level(k);
		printf("%s ok\n", k->name);
	}
	return 0;
}
