/*
 * attribute_types.c
 *		How each SQL type becomes a fixed-width column.
 *
 * Support function 2 of an attribute operator class returns one of the
 * constants below.  The codes are stored in indexes: changing how a type is
 * coded changes the on-disk format.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "attribute.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/*
 * The type "timestamp with time zone" is compared with the zoneless types by
 * way of the session's time zone.  No zone is further from UTC than this
 * (pg_tzset_offset takes less than a week), so that the code of a zoneless value
 * is right to within it.
 */
#define ZONE_MARGIN_DAYS	7
#define ZONE_MARGIN			(ZONE_MARGIN_DAYS * USECS_PER_DAY)

#define SIGN_BIT64		(UINT64CONST(1) << 63)

static inline WinnowPlace
place_at(int64 code)
{
	return (WinnowPlace){.low = code, .high = code, .exact = true};
}

/* Between a code and its successor, equal to neither */
static inline WinnowPlace
place_after(int64 code)
{
	return (WinnowPlace){.low = code + 1, .high = code, .exact = true};
}

/*
 * Cells of imprints where nothing is known of the values: floats that agree in their first 8 bits, times of about
 * half an hour
 */
#define FLOAT4_SHIFT			(23 - 8)
#define FLOAT8_SHIFT			(52 - 8)
#define TIME_SHIFT				31

/* ----------
 * Booleans, integers, oid and enums
 * ----------
 */

static int64
bool_code(Datum value)
{
	return DatumGetBool(value) ? 1 : 0;
}

static int64
int2_code(Datum value)
{
	return DatumGetInt16(value);
}

static int64
int4_code(Datum value)
{
	return DatumGetInt32(value);
}

static int64
int8_code(Datum value)
{
	return DatumGetInt64(value);
}

/* An integer constant may lie outside the column's type: no code equals it */
static bool
integer_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	switch (valuetype)
	{
		case INT2OID:
			*place = place_at(DatumGetInt16(value));
			return true;
		case INT4OID:
			*place = place_at(DatumGetInt32(value));
			return true;
		case INT8OID:
			*place = place_at(DatumGetInt64(value));
			return true;
		default:
			return false;
	}
}

/* Object identifiers are unsigned */
static int64
oid_code(Datum value)
{
	return (int64) DatumGetObjectId(value) + PG_INT32_MIN;
}

/* ----------
 * Floating point and numeric
 *
 * The bits of an IEEE number sort as a signed integer once those of negative
 * numbers are inverted.  All NaNs are equal and greater than any number, and
 * the two zeros are equal.
 * ----------
 */

static int64
code_from_float4(float4 number)
{
	int32		bits;

	if (isnan(number))
		return PG_INT32_MAX;
	if (number == 0)
		return 0;
	memcpy(&bits, &number, sizeof(bits));
	return bits >= 0 ? bits : bits ^ PG_INT32_MAX;
}

static int64
code_from_float8(float8 number)
{
	int64		bits;

	if (isnan(number))
		return PG_INT64_MAX;
	if (number == 0)
		return 0;
	memcpy(&bits, &number, sizeof(bits));
	return bits >= 0 ? bits : bits ^ PG_INT64_MAX;
}

static int64
float4_code(Datum value)
{
	return code_from_float4(DatumGetFloat4(value));
}

static int64
float8_code(Datum value)
{
	return code_from_float8(DatumGetFloat8(value));
}

/* A float8 may fall between two float4 values, or beyond the last of them */
static bool
float4_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	float8		number;
	float4		nearest;

	if (valuetype != FLOAT8OID)
		return false;

	number = DatumGetFloat8(value);
	if (number > FLT_MAX && !isinf(number))
		*place = place_after(code_from_float4(FLT_MAX));
	else if (number < -FLT_MAX && !isinf(number))
		*place = place_after(code_from_float4(-FLT_MAX) - 1);
	else
	{
		nearest = (float4) number;
		*place = place_at(code_from_float4(nearest));
		if ((float8) nearest < number)
			*place = place_after(place->low);
		else if ((float8) nearest > number)
			*place = place_after(place->low - 1);
	}
	return true;
}

static bool
float8_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	if (valuetype != FLOAT4OID)
		return false;
	*place = place_at(code_from_float8(DatumGetFloat4(value)));
	return true;
}

/*
 * The nearest float8.  Rounding to nearest never swaps two values, and values
 * beyond the range of float8 go to the infinities.
 */
static int64
numeric_code(Datum value)
{
	return float8_code(DirectFunctionCall1(numeric_float8_no_overflow, value));
}

/* ----------
 * Dates and times
 * ----------
 */

static int64
date_code(Datum value)
{
	return DatumGetDateADT(value);
}

static int64
time_code(Datum value)
{
	return DatumGetTimeADT(value);
}

static int64
timestamp_code(Datum value)
{
	return DatumGetTimestamp(value);
}

/* The day that a finite timestamp falls on (both count from 2000-01-01) */
static int64
day_of_timestamp(Timestamp timestamp)
{
	int64		day = timestamp / USECS_PER_DAY;

	if (timestamp % USECS_PER_DAY < 0)
		day--;
	return day;
}

static bool
date_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	Timestamp	timestamp = DatumGetTimestamp(value);

	if (valuetype != TIMESTAMPOID && valuetype != TIMESTAMPTZOID)
		return false;

	if (TIMESTAMP_IS_NOBEGIN(timestamp))
		*place = place_at(DATEVAL_NOBEGIN);
	else if (TIMESTAMP_IS_NOEND(timestamp))
		*place = place_at(DATEVAL_NOEND);
	else if (valuetype == TIMESTAMPOID)
	{
		/* a date is compared as its midnight */
		if (timestamp % USECS_PER_DAY == 0)
			*place = place_at(day_of_timestamp(timestamp));
		else
			*place = place_after(day_of_timestamp(timestamp));
	}
	else
	{
		place->low = day_of_timestamp(timestamp) - ZONE_MARGIN_DAYS;
		place->high = day_of_timestamp(timestamp) + ZONE_MARGIN_DAYS;
		place->exact = false;
	}
	return true;
}

/*
 * A date or timestamp converted to a column's type, where "overflow" says that
 * the result is out of range: then it lies between the finite values and an
 * infinity.
 */
static WinnowPlace
place_converted(Timestamp timestamp, int overflow)
{
	if (overflow > 0)
		return place_after(DT_NOEND - 1);
	if (overflow < 0)
		return place_after(DT_NOBEGIN);
	return place_at(timestamp);
}

static bool
timestamp_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	if (valuetype == DATEOID)
	{
		int			overflow = 0;
		Timestamp	timestamp;

		timestamp = date2timestamp_opt_overflow(DatumGetDateADT(value), &overflow);
		*place = place_converted(timestamp, overflow);
		return true;
	}
	if (valuetype == TIMESTAMPTZOID)
	{
		TimestampTz timestamp = DatumGetTimestampTz(value);

		if (TIMESTAMP_NOT_FINITE(timestamp))
			*place = place_at(timestamp);
		else
		{
			/* finite timestamps are far enough from the ends of int64 */
			place->low = timestamp - ZONE_MARGIN;
			place->high = timestamp + ZONE_MARGIN;
			place->exact = false;
		}
		return true;
	}
	return false;
}

static bool
timestamptz_place(Datum value, Oid valuetype, WinnowPlace *place)
{
	int			overflow = 0;
	TimestampTz timestamp;

	if (valuetype == DATEOID)
		timestamp = date2timestamptz_opt_overflow(DatumGetDateADT(value), &overflow);
	else if (valuetype == TIMESTAMPOID)
		timestamp = timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value), &overflow);
	else
		return false;

	*place = place_converted(timestamp, overflow);
	return true;
}

/* ----------
 * Byte strings
 * ----------
 */

/* Eight bytes as an integer that sorts as memcmp does */
static int64
code_from_bytes(const unsigned char *bytes)
{
	uint64		number = 0;

	for (int i = 0; i < 8; i++)
		number = number << 8 | bytes[i];
	return (int64) (number ^ SIGN_BIT64);
}

static int64
uuid_code(Datum value)
{
	return code_from_bytes(DatumGetUUIDP(value)->data);
}

/* The first eight bytes of a text or bytea, padded with zeros */
static int64
prefix_code(Datum value)
{
	unsigned char bytes[8] = {0};
	struct varlena *slice;
	int64		code;

	slice = PG_DETOAST_DATUM_SLICE(value, 0, sizeof(bytes));
	memcpy(bytes, VARDATA_ANY(slice), Min(VARSIZE_ANY_EXHDR(slice), sizeof(bytes)));
	code = code_from_bytes(bytes);
	pfree(slice);
	return code;
}

/* ----------
 * The column types, and the support functions that name them
 * ----------
 */

#define COLUMN_FUNCTION(function, ...) \
	static const WinnowColumnType function##_type = {__VA_ARGS__}; \
	PG_FUNCTION_INFO_V1(function); \
	Datum \
	function(PG_FUNCTION_ARGS) \
	{ \
		PG_RETURN_POINTER(&function##_type); \
	} \
	extern int no_such_variable

COLUMN_FUNCTION(winnow_bool_column,
				.name = "bool", .kind = WINNOW_COLUMN_ORDERED, .width = 1,
				.exact = true, .code = bool_code);
COLUMN_FUNCTION(winnow_int2_column,
				.name = "int2", .kind = WINNOW_COLUMN_ORDERED, .width = 2,
				.exact = true, .code = int2_code, .place = integer_place);
COLUMN_FUNCTION(winnow_int4_column,
				.name = "int4", .kind = WINNOW_COLUMN_ORDERED, .width = 4,
				.exact = true, .code = int4_code, .place = integer_place);
COLUMN_FUNCTION(winnow_int8_column,
				.name = "int8", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.exact = true, .code = int8_code, .place = integer_place);
COLUMN_FUNCTION(winnow_oid_column,
				.name = "oid", .kind = WINNOW_COLUMN_ORDERED, .width = 4,
				.exact = true, .code = oid_code);
COLUMN_FUNCTION(winnow_enum_column,
				.name = "enum", .kind = WINNOW_COLUMN_ORDERED, .width = 4,
				.exact = true, .enumerated = true, .code = oid_code);
COLUMN_FUNCTION(winnow_float4_column,
				.name = "float4", .kind = WINNOW_COLUMN_ORDERED, .width = 4,
				.shift = FLOAT4_SHIFT,
				.exact = true, .code = float4_code, .place = float4_place);
COLUMN_FUNCTION(winnow_float8_column,
				.name = "float8", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.shift = FLOAT8_SHIFT,
				.exact = true, .code = float8_code, .place = float8_place);
COLUMN_FUNCTION(winnow_numeric_column,
				.name = "numeric", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.shift = FLOAT8_SHIFT,
				.code = numeric_code);
COLUMN_FUNCTION(winnow_date_column,
				.name = "date", .kind = WINNOW_COLUMN_ORDERED, .width = 4,
				.exact = true, .code = date_code, .place = date_place);
COLUMN_FUNCTION(winnow_time_column,
				.name = "time", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.shift = TIME_SHIFT,
				.exact = true, .code = time_code);
COLUMN_FUNCTION(winnow_timestamp_column,
				.name = "timestamp", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.shift = TIME_SHIFT,
				.exact = true, .code = timestamp_code, .place = timestamp_place);
COLUMN_FUNCTION(winnow_timestamptz_column,
				.name = "timestamptz", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.shift = TIME_SHIFT,
				.exact = true, .code = timestamp_code, .place = timestamptz_place);
COLUMN_FUNCTION(winnow_uuid_column,
				.name = "uuid", .kind = WINNOW_COLUMN_ORDERED, .width = 8,
				.code = uuid_code);
COLUMN_FUNCTION(winnow_text_column,
				.name = "text", .kind = WINNOW_COLUMN_HASHED, .code = prefix_code);
COLUMN_FUNCTION(winnow_bpchar_column,
				.name = "bpchar", .kind = WINNOW_COLUMN_HASHED);
COLUMN_FUNCTION(winnow_bytea_column,
				.name = "bytea", .kind = WINNOW_COLUMN_HASHED, .code = prefix_code);
COLUMN_FUNCTION(winnow_array_column,
				.name = "array", .kind = WINNOW_COLUMN_SIGNATURE);
