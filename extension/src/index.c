/*
 * index.c
 *		What a backend knows of an index: meta page, schema, layouts, rotation.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "core/distance.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "calibrate.h"
#include "vector.h"

/* Of the rotation.  An index keeps its own, so that another number here would not make it useless. */
#define WINNOW_DEFAULT_SEED UINT64CONST(0x9E3779B97F4A7C15)

/* Dimensions of the vector column, from its type modifier */
static int
vector_dims(Relation rel, int attno)
{
	Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), attno);
	int32		dims = attr->atttypmod;

	/* a domain has the dimensions of its base type */
	getBaseTypeAndTypmod(attr->atttypid, &dims);
	if (dims < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("column \"%s\" does not have dimensions", NameStr(attr->attname)),
				 errhint("Give the type a number of dimensions, as in vector(384), or index an expression with a cast, as in ((%s::vector(384))).",
						 NameStr(attr->attname))));
	return dims;
}

/* Metric of the vector column, from support function 1 of its class */
static WinnowMetric
vector_metric(Relation rel, int attno)
{
	FmgrInfo   *proc = index_getprocinfo(rel, attno + 1, WINNOW_METRIC_PROC);

	return (WinnowMetric) DatumGetInt32(FunctionCall1(proc, PointerGetDatum(NULL)));
}

/* The meta page of a new index on the relation; the root is for the caller */
void
winnow_meta_fill(Relation rel, WinnowMeta *meta)
{
	WinnowOptions *options = (WinnowOptions *) rel->rd_options;
	WinnowSchema *schema = winnow_schema_create(rel, CurrentMemoryContext);

	memset(meta, 0, sizeof(*meta));
	meta->magic = WINNOW_MAGIC;
	meta->version = WINNOW_VERSION;
	meta->dims = vector_dims(rel, schema->vector_attno);
	meta->metric = vector_metric(rel, schema->vector_attno);
	meta->list_size = options && options->list_size != WINNOW_UNSET ?
		options->list_size :
		winnow_default_list_size(meta->dims);
	meta->bits = options && options->bits != WINNOW_UNSET ?
		options->bits :
		winnow_default_bits(meta->dims);
	meta->nattrs = schema->nattrs;
	meta->seed = WINNOW_DEFAULT_SEED;
	winnow_calibration_default(meta);
	meta->root = InvalidBlockNumber;
	for (int i = 0; i < schema->nattrs; i++)
	{
		meta->attrs[i].kind = schema->attrs[i].type->kind;
		meta->attrs[i].width = schema->attrs[i].type->width;
		meta->attrs[i].shift = schema->attrs[i].type->shift;
		meta->attrs[i].prefix = schema->attrs[i].prefix;
		meta->attrs[i].opcintype = schema->attrs[i].opcintype;
	}
	pfree(schema);
}

static bool
shape_in_range(const WinnowMeta *meta)
{
	return meta->list_size >= WINNOW_MIN_LIST_SIZE && meta->list_size <= WINNOW_MAX_LIST_SIZE &&
		   meta->bits >= WINNOW_MIN_BITS && meta->bits <= WINNOW_MAX_REFINEMENT_BITS;
}

/* Does what is on the meta page still describe the index's columns? */
static void
check_meta(Relation rel, const WinnowMeta *meta, const WinnowSchema *schema)
{
	if (meta->magic != WINNOW_MAGIC)
		winnow_corrupted(rel, WINNOW_META_BLOCK, "The meta page has a wrong magic number.");
	if (meta->version != WINNOW_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("index \"%s\" has format version %u, this library reads version %u",
						RelationGetRelationName(rel), meta->version, WINNOW_VERSION),
				 errhint("Install the library that wrote the index, or rebuild the index with REINDEX.")));
	if (meta->dims < 1 || meta->dims > WINNOW_MAX_DIM ||
		meta->metric < WINNOW_METRIC_L2 || meta->metric > WINNOW_METRIC_COSINE ||
		!shape_in_range(meta) || !(meta->effective_dim >= 1) || meta->nattrs != schema->nattrs)
		winnow_corrupted(rel, WINNOW_META_BLOCK, "The meta page has values out of range.");
	for (int i = 0; i < WINNOW_RECALL_KINDS; i++)
		for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
			if (!(meta->tolerance[i][t] > 0 && meta->tolerance[i][t] < 1000))
				winnow_corrupted(rel, WINNOW_META_BLOCK, "The meta page has values out of range.");
	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];

		if (meta->attrs[i].shift > 63)
			winnow_corrupted(rel, WINNOW_META_BLOCK, "The meta page has values out of range.");
		if (meta->attrs[i].kind != attr->type->kind ||
			meta->attrs[i].width != attr->type->width ||
			meta->attrs[i].prefix != attr->prefix ||
			meta->attrs[i].opcintype != attr->opcintype)
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("column %d of index \"%s\" is stored in another way than its operator class says now",
							attr->index_attno + 1, RelationGetRelationName(rel)),
					 errhint("Rebuild the index with REINDEX.")));
	}
}

static Size
index_bytes(int dims)
{
	return MAXALIGN(sizeof(WinnowIndex)) + winnow_rotation_bytes(dims);
}

static WinnowRotation *
index_rotation(WinnowIndex *index)
{
	return (WinnowRotation *) ((char *) index + MAXALIGN(sizeof(WinnowIndex)));
}

/*
 * Describe the index that the meta page speaks of.  One flat chunk, so that
 * relcache can keep it.
 */
WinnowIndex *
winnow_index_create(Relation rel, const WinnowMeta *meta, MemoryContext context)
{
	WinnowSchema *schema = winnow_schema_create(rel, CurrentMemoryContext);
	WinnowIndex *index;
	uint8		shifts[INDEX_MAX_KEYS];

	check_meta(rel, meta, schema);
	index = MemoryContextAllocZero(context, index_bytes(meta->dims));
	index->dims = meta->dims;
	index->metric = (WinnowMetric) meta->metric;
	index->list_size = meta->list_size;
	index->bits = meta->bits;
	index->effective_dim = meta->effective_dim;
	memcpy(index->tolerance, meta->tolerance, sizeof(index->tolerance));
	index->calibrated_rows = (double) meta->calibrated_rows;
	index->code_bytes = winnow_code_bytes(meta->dims);
	index->schema = *schema;
	pfree(schema);
	for (int i = 0; i < index->schema.nattrs; i++)
		shifts[i] = meta->attrs[i].shift;
	winnow_imprint_init(&index->schema, index->list_size, shifts);
	winnow_layout_init(&index->leaf, &index->schema, index->dims, index->list_size,
					   index->bits, true);
	winnow_layout_init(&index->inner, &index->schema, index->dims,
					   winnow_inner_size(index->list_size), index->bits, false);
	index->rotation = index_rotation(index);
	winnow_rotation_init(index->rotation, index->dims, meta->seed);
	return index;
}

/* What relcache keeps of an index, which an invalidation may free at any time */
static const WinnowIndex *
cached_index(Relation rel)
{
	if (rel->rd_amcache == NULL)
	{
		WinnowMeta	meta = winnow_read_meta(rel, NULL);

		rel->rd_amcache = winnow_index_create(rel, &meta, rel->rd_indexcxt);
	}
	return rel->rd_amcache;
}

/*
 * How an existing index was built, for the planner; false: that cannot be told.
 * An index of another version, or a damaged one, must not keep queries from
 * being planned that may do without it.
 */
bool
winnow_index_shape(Relation rel, int *list_size, int *bits)
{
	const WinnowIndex *cached = rel->rd_amcache;
	Buffer		buffer;
	Page		page;
	bool		known = false;

	if (cached != NULL)
	{
		*list_size = cached->list_size;
		*bits = cached->bits;
		return true;
	}
	if (RelationGetNumberOfBlocks(rel) == 0)
		return false;
	buffer = ReadBuffer(rel, WINNOW_META_BLOCK);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (!PageIsNew(page) && winnow_page_kind(page) == WINNOW_PAGE_META)
	{
		const WinnowMeta *meta = WinnowPageGetMeta(page);

		known = meta->magic == WINNOW_MAGIC && meta->version == WINNOW_VERSION &&
			shape_in_range(meta);
		*list_size = meta->list_size;
		*bits = meta->bits;
	}
	UnlockReleaseBuffer(buffer);
	return known;
}

/* The description of an existing index, as a copy in the given context */
WinnowIndex *
winnow_index_open(Relation rel, MemoryContext context)
{
	const WinnowIndex *cached = cached_index(rel);
	Size		bytes = index_bytes(cached->dims);
	WinnowIndex *index = MemoryContextAlloc(context, bytes);

	memcpy(index, cached, bytes);
	index->rotation = index_rotation(index);
	return index;
}

/* Open a relation that must be a winnow index, for the SQL functions */
Relation
winnow_index_relation(Oid oid, LOCKMODE lockmode)
{
	Relation	rel = relation_open(oid, lockmode);

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partitioned index", RelationGetRelationName(rel)),
				 errhint("Name the index of one of the partitions.")));
	if (rel->rd_rel->relkind != RELKIND_INDEX ||
		rel->rd_rel->relam != get_index_am_oid("winnow", true))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a winnow index", RelationGetRelationName(rel))));
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary indexes of other sessions")));
	if (!rel->rd_index->indisvalid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid", RelationGetRelationName(rel)),
				 errhint("Rebuild it with REINDEX, or drop it.")));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED && RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access unlogged index \"%s\" during recovery",
						RelationGetRelationName(rel)),
				 errdetail("A standby does not have the content of unlogged tables and indexes.")));
	return rel;
}

/*
 * Take a vector into index space: out has dims floats.  Returns false for the
 * zero vector under cosine, which has no direction; it is placed at the
 * origin, and its distance to anything is NaN.
 */
bool
winnow_index_vector(const WinnowIndex *index, Datum value, float *out)
{
	WinnowVector *vector = DatumGetWinnowVector(value);
	bool		directed = true;

	if (vector->dim != index->dims)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("expected %d dimensions, not %d", index->dims, vector->dim)));
	if (index->metric == WINNOW_METRIC_COSINE)
	{
		double		norm = sqrt(winnow_wide_inner_product(vector->x, vector->x, index->dims));
		double		scale = norm > 0 ? 1 / norm : 0;

		directed = norm > 0;
		for (int i = 0; i < index->dims; i++)
			out[i] = (float) (vector->x[i] * scale);
	}
	else
		memcpy(out, vector->x, sizeof(float) * index->dims);
	winnow_rotate(index->rotation, out, out);
	if ((Pointer) vector != DatumGetPointer(value))
		pfree(vector);
	return directed;
}
