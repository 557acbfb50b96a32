/*
 * attribute.c
 *		The schema of an index, and the images of rows and summaries.
 */
#include "postgres.h"

#include "access/genam.h"
#include "attribute.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* ----------
 * The schema
 * ----------
 */

/*
 * The extended hash function of a type.  Like the array operators, take it
 * only where it agrees with the type's default equality.
 */
static FmgrInfo *
hash_function(Oid typid)
{
	TypeCacheEntry *entry;

	entry = lookup_type_cache(typid, TYPECACHE_EQ_OPR | TYPECACHE_HASH_EXTENDED_PROC |
							  TYPECACHE_HASH_EXTENDED_PROC_FINFO);
	if (!OidIsValid(entry->hash_extended_proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("type %s cannot be a column of a winnow index",
						format_type_be(typid)),
				 errdetail("The type has no extended hash function.")));
	return &entry->hash_extended_proc_finfo;
}

/*
 * Does PostgreSQL forget to ignore the blanks that char(n) ends with?  Its extended hash function does under a collation
 * that is not deterministic, its operators do not.
 */
static bool
is_padded(Oid typid, Oid collation)
{
	return getBaseType(typid) == BPCHAROID && OidIsValid(collation) && !get_collation_isdeterministic(collation);
}

static void
attr_init(WinnowAttr *attr, Relation index, int attno)
{
	FmgrInfo   *support = index_getprocinfo(index, attno + 1, WINNOW_COLUMN_PROC);
	Oid			typid = TupleDescAttr(RelationGetDescr(index), attno)->atttypid;

	attr->index_attno = attno;
	attr->opcintype = index->rd_opcintype[attno];
	attr->collation = index->rd_indcollation[attno];
	attr->typid = IsPolymorphicType(attr->opcintype) ? getBaseType(typid) : attr->opcintype;
	attr->type = (const WinnowColumnType *)
		DatumGetPointer(FunctionCall1(support, PointerGetDatum(NULL)));

	if (attr->type->kind == WINNOW_COLUMN_HASHED)
	{
		attr->hash = hash_function(attr->typid);
		attr->padded = is_padded(attr->typid, attr->collation);
		attr->prefix = attr->type->code != NULL &&
			(!OidIsValid(attr->collation) || winnow_collation_is_c(attr->collation));
	}
	else if (attr->type->kind == WINNOW_COLUMN_SIGNATURE)
	{
		attr->elemtype = get_base_element_type(attr->typid);
		if (!OidIsValid(attr->elemtype))
			elog(ERROR, "type %s is not an array", format_type_be(attr->typid));
		get_typlenbyvalalign(attr->elemtype, &attr->elemlen, &attr->elembyval,
							 &attr->elemalign);
		attr->hash = hash_function(attr->elemtype);
		attr->padded = is_padded(attr->elemtype, attr->collation);
	}
}

static int
add_leaf_column(WinnowSchema *schema, int width)
{
	int			column = schema->nleaf++;

	schema->leaf_width[column] = width;
	schema->leaf_offset[column] = schema->leaf_bytes;
	schema->leaf_bytes += width;
	return column;
}

static int
add_inner_column(WinnowSchema *schema, int width)
{
	int			column = schema->ninner++;

	schema->inner_width[column] = width;
	schema->inner_offset[column] = schema->inner_bytes;
	schema->inner_bytes += width;
	return column;
}

static void
add_attr_columns(WinnowSchema *schema, WinnowAttr *attr)
{
	int			width = attr->type->width;

	attr->summary_col = add_inner_column(schema, 1);
	switch (attr->type->kind)
	{
		case WINNOW_COLUMN_ORDERED:
			attr->leaf_col = add_leaf_column(schema, width);
			add_inner_column(schema, width);
			add_inner_column(schema, width);
			break;
		case WINNOW_COLUMN_HASHED:
			attr->leaf_col = add_leaf_column(schema, sizeof(uint64));
			add_inner_column(schema, WINNOW_BLOOM_BYTES);
			if (attr->prefix)
			{
				add_leaf_column(schema, sizeof(int64));
				add_inner_column(schema, sizeof(int64));
				add_inner_column(schema, sizeof(int64));
			}
			break;
		case WINNOW_COLUMN_SIGNATURE:
			attr->leaf_col = add_leaf_column(schema, WINNOW_BLOOM_BYTES);
			add_inner_column(schema, WINNOW_BLOOM_BYTES);
			break;
	}
}

/*
 * Describe the columns of an index, in the given context.  The result holds
 * no pointers into that context: it may be copied flat.
 *
 * Errors when the index does not have exactly one vector column, or when a
 * column's type cannot be hashed.
 */
WinnowSchema *
winnow_schema_create(Relation index, MemoryContext context)
{
	WinnowSchema *schema = MemoryContextAllocZero(context, sizeof(WinnowSchema));
	int			nvectors = 0;

	for (int attno = 0; attno < IndexRelationGetNumberOfKeyAttributes(index); attno++)
	{
		if (OidIsValid(index_getprocid(index, attno + 1, WINNOW_METRIC_PROC)))
		{
			schema->vector_attno = attno;
			nvectors++;
		}
		else
			attr_init(&schema->attrs[schema->nattrs++], index, attno);
	}

	if (nvectors == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a winnow index needs a vector column"),
				 errhint("Name the vector column with its operator class first, as in (embedding vector_cosine_ops, category).")));
	if (nvectors > 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a winnow index cannot have more than one vector column"),
				 errhint("Create an index for each of the vector columns.")));

	for (int i = 0; i < WINNOW_NULL_COLUMNS(schema->nattrs); i++)
		add_leaf_column(schema, 1);
	for (int i = 0; i < schema->nattrs; i++)
		add_attr_columns(schema, &schema->attrs[i]);

	Assert(schema->nleaf <= WINNOW_MAX_COLUMNS && schema->ninner <= WINNOW_MAX_COLUMNS);
	Assert(schema->leaf_bytes <= WINNOW_MAX_IMAGE && schema->inner_bytes <= WINNOW_MAX_IMAGE);
	return schema;
}

/* ----------
 * Encoding a row
 * ----------
 */

/* The hash of a value, or of an element, as the column stores it */
uint64
winnow_attr_hash(const WinnowAttr *attr, Datum value)
{
	if (attr->padded)
	{
		BpChar	   *padded = DatumGetBpCharPP(value);

		value = PointerGetDatum(cstring_to_text_with_len(VARDATA_ANY(padded),
														 bpchartruelen(VARDATA_ANY(padded), VARSIZE_ANY_EXHDR(padded))));
	}
	return DatumGetUInt64(FunctionCall2Coll(attr->hash, attr->collation, value,
											Int64GetDatum(0)));
}

/*
 * The bits that a hash sets in a 128-bit Bloom filter: three, from 7 bits of
 * the hash each.
 */
void
winnow_bloom_bits(uint64 hash, uint64 bits[2])
{
	bits[0] = bits[1] = 0;
	for (int i = 0; i < 3; i++, hash >>= 7)
		bits[(hash >> 6) & 1] |= UINT64CONST(1) << (hash & 63);
}

/* Load a signed integer of 1, 2, 4 or 8 bytes from any address */
int64
winnow_load_code(const void *from, int width)
{
	int8		byte;
	int16		half;
	int32		word;
	int64		code;

	switch (width)
	{
		case 1:
			memcpy(&byte, from, sizeof(byte));
			return byte;
		case 2:
			memcpy(&half, from, sizeof(half));
			return half;
		case 4:
			memcpy(&word, from, sizeof(word));
			return word;
		default:
			memcpy(&code, from, sizeof(code));
			return code;
	}
}

static void
store_code(void *to, int width, int64 code)
{
	int8		byte = (int8) code;
	int16		half = (int16) code;
	int32		word = (int32) code;

	switch (width)
	{
		case 1:
			memcpy(to, &byte, sizeof(byte));
			break;
		case 2:
			memcpy(to, &half, sizeof(half));
			break;
		case 4:
			memcpy(to, &word, sizeof(word));
			break;
		default:
			memcpy(to, &code, sizeof(code));
			break;
	}
}

/* Merge the bits of one Bloom filter into another; true when it changed */
static bool
bloom_merge(uint8 *bloom, const uint8 *other)
{
	uint64		mine[2];
	uint64		theirs[2];

	memcpy(mine, bloom, sizeof(mine));
	memcpy(theirs, other, sizeof(theirs));
	if ((theirs[0] & ~mine[0]) == 0 && (theirs[1] & ~mine[1]) == 0)
		return false;

	mine[0] |= theirs[0];
	mine[1] |= theirs[1];
	memcpy(bloom, mine, sizeof(mine));
	return true;
}

/* The bits of the elements of an array, over zeros; NULL elements have none */
static void
encode_signature(const WinnowAttr *attr, Datum value, uint8 *signature)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;

	deconstruct_array(array, attr->elemtype, attr->elemlen, attr->elembyval,
					  attr->elemalign, &elements, &nulls, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		uint64		bits[2];

		if (nulls[i])
			continue;
		winnow_bloom_bits(winnow_attr_hash(attr, elements[i]), bits);
		bloom_merge(signature, (const uint8 *) bits);
	}

	pfree(elements);
	pfree(nulls);
	if ((Pointer) array != DatumGetPointer(value))
		pfree(array);
}

/*
 * Write the image of a heap row.  values and isnull are those of the index's
 * columns, in index order; the image has leaf_bytes bytes.
 */
void
winnow_encode_attrs(const WinnowSchema *schema, const Datum *values,
					const bool *isnull, uint8 *leaf_image)
{
	memset(leaf_image, 0, schema->leaf_bytes);
	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];
		Datum		value = values[attr->index_attno];
		uint8	   *to = leaf_image + schema->leaf_offset[attr->leaf_col];

		if (isnull[attr->index_attno])
		{
			leaf_image[i / 8] |= 1 << (i % 8);
			continue;
		}

		switch (attr->type->kind)
		{
			case WINNOW_COLUMN_ORDERED:
				store_code(to, attr->type->width, attr->type->code(value));
				break;
			case WINNOW_COLUMN_HASHED:
				store_code(to, sizeof(int64), (int64) winnow_attr_hash(attr, value));
				if (attr->prefix)
					store_code(to + sizeof(int64), sizeof(int64), attr->type->code(value));
				break;
			case WINNOW_COLUMN_SIGNATURE:
				encode_signature(attr, value, to);
				break;
		}
	}
}

/* ----------
 * Summaries
 * ----------
 */

/*
 * What a summary holds of one attribute's values: a pair of minimum and
 * maximum at "range", of "width" bytes each, and a Bloom filter at "bloom".
 * Either may be absent (NULL).
 */
typedef struct SummaryParts
{
	uint8	   *flags;
	uint8	   *bloom;
	uint8	   *range;
	int			width;
} SummaryParts;

static SummaryParts
summary_parts(const WinnowSchema *schema, const WinnowAttr *attr, uint8 *summary)
{
	SummaryParts parts = {0};

	parts.flags = summary + schema->inner_offset[attr->summary_col];
	if (attr->type->kind == WINNOW_COLUMN_ORDERED)
	{
		parts.range = parts.flags + 1;
		parts.width = attr->type->width;
	}
	else
	{
		parts.bloom = parts.flags + 1;
		if (attr->prefix)
		{
			parts.range = parts.bloom + WINNOW_BLOOM_BYTES;
			parts.width = sizeof(int64);
		}
	}
	return parts;
}

/* Widen a range to hold the codes from *low to *high; true when it changed */
static bool
range_widen(SummaryParts parts, const uint8 *low, const uint8 *high)
{
	uint8	   *minimum = parts.range;
	uint8	   *maximum = parts.range + parts.width;
	bool		changed = false;

	if (winnow_load_code(low, parts.width) < winnow_load_code(minimum, parts.width))
	{
		memcpy(minimum, low, parts.width);
		changed = true;
	}
	if (winnow_load_code(high, parts.width) > winnow_load_code(maximum, parts.width))
	{
		memcpy(maximum, high, parts.width);
		changed = true;
	}
	return changed;
}

static bool
flags_merge(SummaryParts parts, uint8 flags)
{
	if ((flags & ~*parts.flags) == 0)
		return false;
	*parts.flags |= flags;
	return true;
}

/* A summary of no rows, which no key matches; it has inner_bytes bytes */
void
winnow_summary_reset(const WinnowSchema *schema, uint8 *summary)
{
	memset(summary, 0, schema->inner_bytes);
	for (int i = 0; i < schema->nattrs; i++)
	{
		SummaryParts parts = summary_parts(schema, &schema->attrs[i], summary);
		int64		largest;

		if (parts.range == NULL)
			continue;
		largest = PG_INT64_MAX >> (64 - 8 * parts.width);
		store_code(parts.range, parts.width, largest);
		store_code(parts.range + parts.width, parts.width, -largest - 1);
	}
}

/* Make a summary hold for a row too; true when it had to change */
bool
winnow_summary_add_row(const WinnowSchema *schema, uint8 *summary,
					   const uint8 *leaf_image)
{
	bool		changed = false;

	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];
		SummaryParts parts = summary_parts(schema, attr, summary);
		const uint8 *value = leaf_image + schema->leaf_offset[attr->leaf_col];

		if (leaf_image[i / 8] & (1 << (i % 8)))
		{
			changed |= flags_merge(parts, WINNOW_SUMMARY_HAS_NULL);
			continue;
		}

		changed |= flags_merge(parts, WINNOW_SUMMARY_HAS_VALUE);
		if (attr->type->kind == WINNOW_COLUMN_HASHED)
		{
			uint64		bits[2];

			winnow_bloom_bits((uint64) winnow_load_code(value, sizeof(int64)), bits);
			changed |= bloom_merge(parts.bloom, (const uint8 *) bits);
			value += sizeof(int64); /* to the prefix */
		}
		else if (attr->type->kind == WINNOW_COLUMN_SIGNATURE)
			changed |= bloom_merge(parts.bloom, value);

		if (parts.range != NULL)
			changed |= range_widen(parts, value, value);
	}
	return changed;
}

/* Make a summary hold for the rows of another too; true when it had to change */
bool
winnow_summary_add_summary(const WinnowSchema *schema, uint8 *summary,
						   const uint8 *other)
{
	bool		changed = false;

	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];
		SummaryParts mine = summary_parts(schema, attr, summary);
		SummaryParts theirs = summary_parts(schema, attr, unconstify(uint8 *, other));

		changed |= flags_merge(mine, *theirs.flags);
		if (mine.bloom != NULL)
			changed |= bloom_merge(mine.bloom, theirs.bloom);
		if (mine.range != NULL)
			changed |= range_widen(mine, theirs.range, theirs.range + theirs.width);
	}
	return changed;
}

/* Does a summary hold for a row? */
bool
winnow_summary_covers_row(const WinnowSchema *schema, const uint8 *summary,
						  const uint8 *leaf_image)
{
	uint8		copy[WINNOW_MAX_IMAGE];

	memcpy(copy, summary, schema->inner_bytes);
	return !winnow_summary_add_row(schema, copy, leaf_image);
}

/* Does a summary hold for all the rows of another? */
bool
winnow_summary_covers_summary(const WinnowSchema *schema, const uint8 *summary,
							  const uint8 *other)
{
	uint8		copy[WINNOW_MAX_IMAGE];

	memcpy(copy, summary, schema->inner_bytes);
	return !winnow_summary_add_summary(schema, copy, other);
}
