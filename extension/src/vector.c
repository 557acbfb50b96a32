/*
 * vector.c
 *		The type vector: text, binary, type modifier, construction.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "nodes/nodes.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "compat.h"
#include "core/parse.h"
#include "vector.h"

/* How much of a refused text an error message repeats, in bytes */
#define MAX_QUOTED 40

/* Bytes before the elements in the binary form: dimensions, unused field */
#define BINARY_HEADER_SIZE 4

WinnowVector *
winnow_vector_new(int dim)
{
	Size		size = WINNOW_VECTOR_SIZE(dim);
	WinnowVector *vector;

	Assert(dim >= 1 && dim <= WINNOW_MAX_DIM);

	vector = (WinnowVector *) palloc(size);
	SET_VARSIZE(vector, size);
	vector->dim = (int16) dim;
	vector->unused = 0;
	return vector;
}

void
winnow_check_dim(int dim)
{
	if (dim < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("vector must have at least 1 dimension")));
	if (dim > WINNOW_MAX_DIM)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("vector cannot have more than %d dimensions",
						WINNOW_MAX_DIM),
				 errdetail("This one would have %d.", dim)));
}

/* As winnow_check_typmod, but an input function's context takes the error. */
static bool
typmod_accepts(int32 typmod, int dim, Node *context)
{
	if (typmod == -1 || typmod == dim)
		return true;
	errsave(context,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("expected %d dimensions, not %d", typmod, dim)));
	return false;
}

void
winnow_check_typmod(int32 typmod, int dim)
{
	(void) typmod_accepts(typmod, dim, NULL);
}

void
winnow_check_elements(const float *x, int dim)
{
	int			i;

	for (i = 0; i < dim; i++)
	{
		if (likely(isfinite(x[i])))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 isnan(x[i]) ?
				 errmsg("NaN is not allowed in vector") :
				 errmsg("infinite value is not allowed in vector"),
				 errdetail("It is element %d.", i + 1)));
	}
}

/* A copy of the first length bytes of text, shortened to what a message bears */
static char *
quote(const char *text, size_t length)
{
	if (length <= MAX_QUOTED)
		return pnstrdup(text, length);
	return psprintf("%.*s...",
					pg_mbcliplen(text, (int) Min(length, INT_MAX), MAX_QUOTED),
					text);
}

/* What a person finds at text: a character, or that nothing is left */
static char *
describe_character(const char *text)
{
	if (*text == '\0')
		return pstrdup("the end of the text");
	return psprintf("\"%s\"",
					pnstrdup(text, Min((size_t) pg_mblen(text), strlen(text))));
}

/*
 * Words the refusal of a text. offset and dim are those winnow_parse_vector
 * set. Positions are in characters from 1, as a person counts them.
 */
static void
report_refused_text(const char *text, WinnowParseStatus status, size_t offset,
					int dim, Node *context)
{
	const char *fault = text + offset;
	int			position = pg_mbstrlen_with_len(text, (int) offset) + 1;
	char	   *token = quote(fault, strcspn(fault, ",]" WINNOW_PARSE_SPACE));
	const char *expected = NULL;

	switch (status)
	{
		case WINNOW_PARSE_OK:
			elog(ERROR, "no fault to report");
			break;
		case WINNOW_PARSE_EXPECTED_OPEN:
			expected = "\"[\"";
			break;
		case WINNOW_PARSE_EXPECTED_NUMBER:
			expected = "a number";
			break;
		case WINNOW_PARSE_EXPECTED_SEPARATOR:
			expected = "\",\" or \"]\"";
			break;
		case WINNOW_PARSE_EXPECTED_END:
			expected = "nothing more";
			break;
		case WINNOW_PARSE_NO_ELEMENTS:
			errsave(context,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("vector must have at least 1 dimension")));
			return;
		case WINNOW_PARSE_TOO_MANY:
			errsave(context,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("vector cannot have more than %d dimensions",
							WINNOW_MAX_DIM),
					 errdetail("Element %d begins at character %d.",
							   dim + 1, position)));
			return;
		case WINNOW_PARSE_NAN:
		case WINNOW_PARSE_INFINITE:
			errsave(context,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 status == WINNOW_PARSE_NAN ?
					 errmsg("NaN is not allowed in vector") :
					 errmsg("infinite value is not allowed in vector"),
					 errdetail("It is element %d, \"%s\" at character %d.",
							   dim + 1, token, position)));
			return;
		case WINNOW_PARSE_OUT_OF_RANGE:
			errsave(context,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("\"%s\" is out of range for type vector", token),
					 errdetail("Element %d, at character %d, is too large for a 4-byte float.",
							   dim + 1, position)));
			return;
	}

	errsave(context,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("invalid input syntax for type vector: \"%s\"",
					quote(text, strlen(text))),
			 errdetail("Expected %s at character %d, found %s.",
					   expected, position, describe_character(fault)),
			 status == WINNOW_PARSE_EXPECTED_OPEN ?
				 errhint("A vector is written as \"[1,2,3]\".") :
				 0));
}

PG_FUNCTION_INFO_V1(winnow_vector_in);
Datum
winnow_vector_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	int32		typmod = PG_GETARG_INT32(2);
	int			capacity = 1;
	int			dim;
	size_t		offset;
	const char *p;
	WinnowVector *vector;
	WinnowParseStatus status;

	/* Each element but the last is followed by a comma. */
	for (p = text; capacity < WINNOW_MAX_DIM && (p = strchr(p, ',')) != NULL; p++)
		capacity++;

	vector = winnow_vector_new(capacity);
	status = winnow_parse_vector(text, vector->x, capacity, &dim, &offset);
	if (status != WINNOW_PARSE_OK)
	{
		report_refused_text(text, status, offset, dim, fcinfo->context);
		PG_RETURN_NULL();
	}
	Assert(dim == capacity);

	if (!typmod_accepts(typmod, dim, fcinfo->context))
		PG_RETURN_NULL();
	PG_RETURN_WINNOW_VECTOR_P(vector);
}

/* Each element is written with as few digits as lead back to the same float. */
PG_FUNCTION_INFO_V1(winnow_vector_out);
Datum
winnow_vector_out(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);
	char	   *text;
	char	   *p;
	int			i;

	/* An element and its comma, or the bracket; and the first bracket, NUL */
	text = palloc(FLOAT_SHORTEST_DECIMAL_LEN * (Size) vector->dim + 2);
	p = text;
	*p++ = '[';
	for (i = 0; i < vector->dim; i++)
	{
		if (i > 0)
			*p++ = ',';
		p += float_to_shortest_decimal_bufn(vector->x[i], p);
	}
	*p++ = ']';
	*p = '\0';
	PG_RETURN_CSTRING(text);
}

/*
 * The binary form is int16 dimensions, int16 zero, then the elements as
 * float4, all big-endian.
 */
PG_FUNCTION_INFO_V1(winnow_vector_recv);
Datum
winnow_vector_recv(PG_FUNCTION_ARGS)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	int32		typmod = PG_GETARG_INT32(2);
	int			length = message->len - message->cursor;
	int			dim;
	int			unused;
	int			i;
	WinnowVector *vector;

	if (length < BINARY_HEADER_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("binary vector is too short"),
				 errdetail("It has %d bytes; its header alone has %d.",
						   length, BINARY_HEADER_SIZE)));

	dim = (int) pq_getmsgint(message, 2);
	unused = (int) pq_getmsgint(message, 2);
	winnow_check_dim(dim);
	if (unused != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("unused field of a binary vector must be 0, not %d",
						unused)));

	length -= BINARY_HEADER_SIZE;
	if (length != dim * (int) sizeof(float))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("binary vector has the wrong length"),
				 errdetail("%d dimensions take %d bytes after the header, but there are %d.",
						   dim, dim * (int) sizeof(float), length)));
	winnow_check_typmod(typmod, dim);

	vector = winnow_vector_new(dim);
	pq_copymsgbytes(message, (char *) vector->x, length);
	for (i = 0; i < dim; i++)
	{
		uint32		bits;

		memcpy(&bits, &vector->x[i], sizeof(bits));
		bits = pg_ntoh32(bits);
		memcpy(&vector->x[i], &bits, sizeof(bits));
	}
	winnow_check_elements(vector->x, dim);
	PG_RETURN_WINNOW_VECTOR_P(vector);
}

PG_FUNCTION_INFO_V1(winnow_vector_send);
Datum
winnow_vector_send(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);
	StringInfoData message;
	int			i;

	pq_begintypsend(&message);
	enlargeStringInfo(&message, BINARY_HEADER_SIZE +
					  vector->dim * (int) sizeof(float));
	pq_sendint16(&message, (uint16) vector->dim);
	pq_sendint16(&message, 0);
	for (i = 0; i < vector->dim; i++)
		pq_sendfloat4(&message, vector->x[i]);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

/* vector(n): n is the number of dimensions. */
PG_FUNCTION_INFO_V1(winnow_vector_typmod_in);
Datum
winnow_vector_typmod_in(PG_FUNCTION_ARGS)
{
	ArrayType  *modifiers = PG_GETARG_ARRAYTYPE_P(0);
	int			count;
	int32	   *values = ArrayGetIntegerTypmods(modifiers, &count);

	if (count != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid type modifier for type vector"),
				 errdetail("It takes one number, the dimensions, not %d.", count),
				 errhint("Write the type as vector(384).")));
	if (values[0] < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dimensions for type vector must be at least 1")));
	if (values[0] > WINNOW_MAX_DIM)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("dimensions for type vector cannot exceed %d",
						WINNOW_MAX_DIM)));
	PG_RETURN_INT32(values[0]);
}

/* The length coercion of vector to vector(n) */
PG_FUNCTION_INFO_V1(winnow_vector);
Datum
winnow_vector(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);

	winnow_check_typmod(PG_GETARG_INT32(1), vector->dim);
	PG_RETURN_WINNOW_VECTOR_P(vector);
}
