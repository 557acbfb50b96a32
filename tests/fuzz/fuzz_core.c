/*
 * fuzz_core.c
 *		What the server-independent code makes of arbitrary bytes.
 *
 * A libFuzzer target ("make fuzz") and, with -DWINNOW_FUZZ_STANDALONE and any
 * compiler, a program that makes its own random inputs: WINNOW_FUZZ_EXAMPLES of
 * each kind, from WINNOW_SEED.  With file names as arguments it runs those inputs
 * instead.
 *
 * All buffers are allocated to the byte, so that AddressSanitizer sees what
 * reads or writes beyond them.  A violated property aborts.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../extension/src/core/parse.h"
#include "../../extension/src/core/quantize.h"
#include "../../extension/src/core/refine.h"
#include "../../extension/src/core/random.h"
#include "../../extension/src/core/rotate.h"
#include "../../extension/src/kernels/kernels.h"

#define MAX_DIM 300
#define MAX_CODES 40

#define CHECK(condition) \
	do \
	{ \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* Bytes of the input that have not been used yet. */
typedef struct Input
{
	const uint8_t *data;
	size_t		size;
} Input;

/* The next bytes; zeros where there are no more. */
static void
take(Input *input, void *to, size_t bytes)
{
	size_t		there = bytes < input->size ? bytes : input->size;

	if (there > 0)
		memcpy(to, input->data, there);
	memset((char *) to + there, 0, bytes - there);
	input->data += there;
	input->size -= there;
}

static int
take_below(Input *input, int n)
{
	uint16_t	value;

	take(input, &value, sizeof(value));
	return value % n;
}

static void *
allocate(size_t bytes)
{
	void	   *memory = malloc(bytes > 0 ? bytes : 1);

	CHECK(memory != NULL);
	return memory;
}

/* A vector as the type allows it: any finite floats. */
static float *
take_vector(Input *input, int dim)
{
	float	   *x = allocate(sizeof(float) * dim);

	take(input, x, sizeof(float) * dim);
	for (int i = 0; i < dim; i++)
		if (!isfinite(x[i]))
			x[i] = FLT_MAX;
	return x;
}

static void
use_any_level(Input *input)
{
	winnow_kernels_use((WinnowSimd) take_below(input, WINNOW_SIMD_AVX512_VPOPCNT + 1));
}

/* What was read is finite, and reads the same when it is written and read again. */
static void
check_elements(const float *elements, int dim)
{
	char		text[32];

	for (int i = 0; i < dim; i++)
	{
		const char *cursor = text;
		float		again;

		CHECK(isfinite(elements[i]));
		snprintf(text, sizeof(text), "%.9g", elements[i]);
		CHECK(winnow_parse_number(&cursor, &again) == WINNOW_PARSE_OK);
		CHECK(*cursor == '\0');
		CHECK(memcmp(&again, &elements[i], sizeof(float)) == 0);
	}
}

/* Any text, with room for any number of elements */
static void
fuzz_vector_text(Input *input)
{
	int			capacity = take_below(input, 20);
	float	   *elements = allocate(sizeof(float) * capacity);
	char	   *text = allocate(input->size + 1);
	size_t		length = input->size;
	int			dim = -1;
	size_t		offset = SIZE_MAX;
	WinnowParseStatus status;

	take(input, text, length);
	text[length] = '\0';
	status = winnow_parse_vector(text, elements, capacity, &dim, &offset);
	CHECK(dim >= 0 && dim <= capacity);
	CHECK(offset <= strlen(text));
	CHECK(status >= WINNOW_PARSE_OK && status <= WINNOW_PARSE_OUT_OF_RANGE);
	CHECK(status != WINNOW_PARSE_OK || (dim > 0 && text[offset] == '\0'));
	CHECK(status != WINNOW_PARSE_TOO_MANY || dim == capacity);
	check_elements(elements, dim);
	free(text);
	free(elements);
}

/* A number is what the C library takes it for */
static void
fuzz_number_text(Input *input)
{
	size_t		length = input->size;
	char	   *text = allocate(length + 1);
	const char *cursor = text;
	float		value;

	take(input, text, length);
	text[length] = '\0';
	if (winnow_parse_number(&cursor, &value) == WINNOW_PARSE_OK)
	{
		char	   *end;
		char	   *number = strndup(text, cursor - text);
		float		right = strtof(number, &end);

		CHECK(cursor > text);
		CHECK(*end == '\0');
		CHECK(memcmp(&value, &right, sizeof(float)) == 0);
		free(number);
	}
	else
		CHECK(cursor == text);
	free(text);
}

/* The score that an estimate is about, as exactly as double allows */
static double
true_score(WinnowMetric metric, const float *x, const float *query, int dim)
{
	double		sum = 0;

	for (int i = 0; i < dim; i++)
	{
		double		difference = (double) x[i] - query[i];

		sum += metric == WINNOW_METRIC_IP ? -(double) x[i] * query[i] : difference * difference;
	}
	return sum;
}

/*
 * Rows whose codes are any bytes have some lower bound.  The estimate may be
 * NaN; a search takes that for infinite.
 */
static void
check_damaged_codes(Input *input, const WinnowQueryCode *q, int dim)
{
	size_t		stride = winnow_code_bytes(dim);
	int			ncodes = 1 + take_below(input, MAX_CODES);
	int			nrows = take_below(input, MAX_CODES);
	uint8_t    *codes = allocate(stride * ncodes);
	uint16_t   *rows = allocate(sizeof(uint16_t) * nrows);
	float	   *estimate = allocate(sizeof(float) * nrows);
	float	   *lower = allocate(sizeof(float) * nrows);
	float		epsilons[] = {0, 1.9f, 100, INFINITY};
	float		epsilon = epsilons[take_below(input, 4)];

	for (int i = 0; i < nrows; i++)
		rows[i] = (uint16_t) take_below(input, ncodes);
	take(input, codes, stride * ncodes);
	winnow_estimate(q, codes, stride, rows, nrows, epsilon, estimate, lower);
	for (int i = 0; i < nrows; i++)
	{
		CHECK(!isnan(lower[i]));
		CHECK(q->metric == WINNOW_METRIC_IP || lower[i] >= 0);
	}
	free(lower);
	free(estimate);
	free(rows);
	free(codes);
}

/* So it is with refinement codes: of the row, and of any bytes */
static void
check_refinement(Input *input, const WinnowQueryCode *q, const float *x, const float *centroid,
				 const float *query, int dim)
{
	int			bits = WINNOW_MIN_REFINEMENT_BITS +
		take_below(input, WINNOW_MAX_REFINEMENT_BITS - WINNOW_MIN_REFINEMENT_BITS + 1);
	size_t		bytes = winnow_refinement_bytes(dim, bits);
	uint8_t    *record = allocate(bytes);
	WinnowRefinementQuery *refined = allocate(winnow_refinement_query_bytes(dim));
	float		epsilons[] = {0, 1.9f, 100, INFINITY};
	float		estimate;
	float		lower;

	winnow_refinement_encode(x, centroid, dim, bits, record);
	winnow_refinement_prepare(refined, q);
	lower = winnow_refine(refined, record, bits, INFINITY, &estimate);
	CHECK(!isnan(estimate));
	CHECK(lower <= true_score(q->metric, x, query, dim));
	CHECK(!(winnow_refinement_rest(x, centroid, dim, bits, record) < 0));

	take(input, record, bytes);
	lower = winnow_refine(refined, record, bits, epsilons[take_below(input, 4)], NULL);
	CHECK(!isnan(lower));
	CHECK(q->metric == WINNOW_METRIC_IP || lower >= 0);
	free(refined);
	free(record);
}

/* A bound that is never wrong is not, for vectors of any finite floats */
static void
fuzz_codes(Input *input)
{
	WinnowMetric metric = (WinnowMetric) (WINNOW_METRIC_L2 + take_below(input, 3));
	int			dim = 1 + take_below(input, MAX_DIM);
	float	   *query;
	float	   *centroid;
	float	   *x;
	uint8_t    *code = allocate(winnow_code_bytes(dim));
	WinnowQueryCode *q = allocate(winnow_query_bytes(dim));
	uint16_t	row = 0;
	float		estimate;
	float		lower;

	use_any_level(input);
	query = take_vector(input, dim);
	centroid = take_vector(input, dim);
	x = take_vector(input, dim);
	winnow_encode(x, centroid, dim, code);
	winnow_query_prepare(q, metric, query, centroid, dim);
	winnow_estimate(q, code, winnow_code_bytes(dim), &row, 1, INFINITY, &estimate, &lower);
	CHECK(!isnan(estimate));
	CHECK(lower <= true_score(metric, x, query, dim));
	check_damaged_codes(input, q, dim);
	check_refinement(input, q, x, centroid, query, dim);
	free(x);
	free(centroid);
	free(query);
	free(q);
	free(code);
}

/* A rotation is the same at every level, and keeps lengths */
static void
fuzz_rotation(Input *input)
{
	int			dim = 1 + take_below(input, MAX_DIM);
	uint64_t	seed;
	WinnowRotation *rotation = allocate(winnow_rotation_bytes(dim));
	float	   *out = allocate(sizeof(float) * dim);
	float	   *scalar = allocate(sizeof(float) * dim);
	float	   *x;
	double		before = 0;
	double		after = 0;

	take(input, &seed, sizeof(seed));
	winnow_rotation_init(rotation, dim, seed);
	use_any_level(input);
	x = take_vector(input, dim);
	winnow_rotate(rotation, x, out);
	winnow_kernels_use(WINNOW_SIMD_SCALAR);
	winnow_rotate(rotation, x, scalar);
	for (int i = 0; i < dim; i++)
	{
		CHECK(isnan(out[i]) ? isnan(scalar[i]) : out[i] == scalar[i]);
		before += (double) x[i] * x[i];
		after += (double) out[i] * out[i];
	}
	/* within the range where floats neither overflow nor lose digits */
	if (before > 1e-40 && before < 1e70)
		CHECK(fabs(sqrt(after / before) - 1) <= 2 * WINNOW_ROTATION_ERROR(rotation->block));
	free(x);
	free(scalar);
	free(out);
	free(rotation);
}

static void (*const targets[]) (Input *input) =
{
	fuzz_vector_text, fuzz_number_text, fuzz_codes, fuzz_rotation
};

#define NTARGETS ((int) (sizeof(targets) / sizeof(targets[0])))

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input		input = {data, size};

	targets[take_below(&input, NTARGETS)](&input);
	return 0;
}

#ifdef WINNOW_FUZZ_STANDALONE

#define MAX_INPUT 20000
#define DEFAULT_EXAMPLES 300

static uint64_t state;

/* Characters that texts of vectors are made of, and others */
static void
random_text(uint8_t *to, int bytes)
{
	static const char alphabet[] = "0123456789012345678901234567890123456789..,,,,--++eE[] \t\nnaif\xc3";
	bool		valid = winnow_random_below(&state, 4) > 0;

	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t) alphabet[winnow_random_below(&state, (int) sizeof(alphabet) - 1)];
	if (valid && bytes > 0)
		to[0] = '[';
}

/* Floats of one scale, or of any bits */
static void
random_floats(uint8_t *to, int bytes)
{
	double		scale = pow(10, winnow_random_below(&state, 90) - 50);
	bool		any = winnow_random_below(&state, 4) == 0;

	for (int i = 0; i + (int) sizeof(float) <= bytes; i += (int) sizeof(float))
	{
		float		value = (float) (scale * (2 * winnow_random_unit(&state) - 1));
		uint32_t	bits = (uint32_t) winnow_random(&state);

		if (any)
			memcpy(to + i, &bits, sizeof(bits));
		else
			memcpy(to + i, &value, sizeof(value));
	}
}

static void
run_random(int target)
{
	bool		text = targets[target] == fuzz_vector_text || targets[target] == fuzz_number_text;
	int			size = text ? winnow_random_below(&state, 120) : winnow_random_below(&state, MAX_INPUT);
	uint8_t    *data = allocate(MAX_INPUT);
	int			header = text ? 4 : 16;

	/* the choices come first: the target, then its own */
	for (int i = 0; i < MAX_INPUT; i++)
		data[i] = (uint8_t) winnow_random(&state);
	data[0] = (uint8_t) target;
	data[1] = 0;
	if (text && targets[target] == fuzz_number_text)
		header = 2;
	if (text)
		random_text(data + header, MAX_INPUT - header);
	else
		random_floats(data + header, MAX_INPUT - header);
	LLVMFuzzerTestOneInput(data, (size_t) (size > header ? size : header));
	free(data);
}

static void
run_file(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	uint8_t    *data = allocate(MAX_INPUT);
	size_t		size;

	if (file == NULL)
	{
		perror(path);
		exit(2);
	}
	size = fread(data, 1, MAX_INPUT, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

static uint64_t
number_from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

int
main(int argc, char **argv)
{
	int			examples = (int) number_from_environment("WINNOW_FUZZ_EXAMPLES", DEFAULT_EXAMPLES);

	state = number_from_environment("WINNOW_SEED", 1);
	for (int i = 1; i < argc; i++)
		run_file(argv[i]);
	for (int i = 0; argc == 1 && i < examples; i++)
		for (int target = 0; target < NTARGETS; target++)
			run_random(target);
	printf("%d inputs\n", argc > 1 ? argc - 1 : examples * NTARGETS);
	return 0;
}

#endif							/* WINNOW_FUZZ_STANDALONE */
