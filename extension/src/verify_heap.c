/*
 * verify_heap.c
 *		winnow_check(): the rows of the index against those of the table.
 *
 * A row of the index is compared if the table's row is visible to a snapshot
 * taken for the check.  What only older snapshots see, or nobody yet, is left
 * alone: its values may be out of reach by now.
 */
#include "postgres.h"

#include "verify.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define NO_TID PG_UINT64_MAX

/* TIDs, as packed into integers, to be sorted within maintenance_work_mem */
static Tuplesortstate *
tid_sort_begin(void)
{
	return tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid, false,
								 maintenance_work_mem / 2, NULL, TUPLESORT_NONE);
}

static void
tid_sort_add(Tuplesortstate *sort, uint64 id)
{
	tuplesort_putdatum(sort, Int64GetDatum((int64) id), false);
}

/* The next in order; NO_TID after the last */
static uint64
tid_sort_next(Tuplesortstate *sort)
{
	Datum		value;

	CHECK_FOR_INTERRUPTS();
	return winnow_tuplesort_next(sort, &value) ? (uint64) DatumGetInt64(value) : NO_TID;
}

static char *
tid_text(uint64 id)
{
	return psprintf("(%u,%u)", winnow_tid_block(id), winnow_tid_offset(id));
}

/*
 * Before the first row.  A snapshot taken now sees nothing that was not put
 * into the index before the walk began.
 */
void
winnow_check_heap_begin(WinnowCheck *check)
{
	const WinnowIndex *index = check->index;

	check->snapshot = RegisterSnapshot(GetLatestSnapshot());
	check->fetch = winnow_fetch_begin(check->heap, check->rel, winnow_all_columns(check->rel));
	check->tids = tid_sort_begin();
	check->image = palloc(Max(index->leaf.image_bytes, 1));
	check->vector = palloc(sizeof(float) * index->dims);
}

/*
 * Vacuum takes a row out of the index before another row can have its TID, so
 * that there is something at the TID, if only a remainder.
 */
static void
check_item(WinnowCheck *check, const WinnowCheckedRow *row)
{
	BlockNumber block = winnow_tid_block(row->id);
	OffsetNumber offset = winnow_tid_offset(row->id);
	Buffer		buffer;
	Page		page;
	bool		used;

	if (check->heap->rd_tableam != GetHeapamTableAmRoutine())
		return;
	buffer = ReadBuffer(check->heap, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	used = offset <= PageGetMaxOffsetNumber(page) && ItemIdIsUsed(PageGetItemId(page, offset));
	UnlockReleaseBuffer(buffer);
	/* replay may have vacuumed since the index's page was read */
	if (!used && !winnow_check_replayed(check))
		winnow_check_failed(check, row,
							psprintf("points to %s, where the table has nothing",
									 tid_text(row->id)));
}

/* The first column in which an image differs from that of the table's row */
static const char *
different_column(const WinnowCheck *check, const uint8 *image)
{
	const WinnowSchema *schema = &check->index->schema;

	for (int i = 0; i < schema->nattrs; i++)
	{
		const WinnowAttr *attr = &schema->attrs[i];
		int			start = schema->leaf_offset[attr->leaf_col];
		int			end = i + 1 < schema->nattrs ?
					  schema->leaf_offset[schema->attrs[i + 1].leaf_col] :
					  schema->leaf_bytes;

		if ((((check->image[i / 8] ^ image[i / 8]) >> (i % 8)) & 1) ||
			memcmp(check->image + start, image + start, end - start) != 0)
			return psprintf(", in column \"%s\"",
							NameStr(TupleDescAttr(RelationGetDescr(check->rel),
												  attr->index_attno)
										->attname));
	}
	return "";					/* null bits of no column */
}

/* A leaf row of the index */
void
winnow_check_heap_row(WinnowCheck *check, const WinnowCheckedRow *row)
{
	const WinnowIndex *index = check->index;
	int			attno = index->schema.vector_attno;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	const WinnowRowPlace nowhere = {InvalidBuffer, 0};
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	if (!winnow_fetch_in_table(check->fetch, row->id))
		winnow_check_failed(check, row,
							psprintf("points to %s, which is not in the table",
									 tid_text(row->id)));
	tid_sort_add(check->tids, row->id);
	if (!winnow_fetch_row(check->fetch, row->id, &nowhere, check->snapshot))
	{
		check_item(check, row);
		return;
	}
	winnow_fetch_values(check->fetch, winnow_fetch_wanted(check->fetch), values, isnull);
	if (isnull[attno])
		winnow_check_failed(check, row,
							psprintf("points to %s, which has no vector", tid_text(row->id)));

	old = MemoryContextSwitchTo(winnow_fetch_context(check->fetch));
	winnow_encode_attrs(&index->schema, values, isnull, check->image);
	if (memcmp(check->image, row->image, index->leaf.image_bytes) != 0)
		winnow_check_failed(check, row,
							psprintf("has other attributes than the table's row %s%s",
									 tid_text(row->id), different_column(check, row->image)));
	winnow_index_vector(index, values[attno], check->vector);
	if (!winnow_check_code(check, row, check->vector))
		winnow_check_failed(check, row,
							psprintf("has a code that is not of the table's row %s",
									 tid_text(row->id)));
	MemoryContextSwitchTo(old);
}

typedef struct HeapScan
{
	int			vector_attno;
	Tuplesortstate *tids;
} HeapScan;

static void
heap_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	HeapScan   *scan = arg;

	if (!isnull[scan->vector_attno])
		tid_sort_add(scan->tids, winnow_tid_pack(tid));
}

/*
 * The TIDs of the table's rows that the index should have: visible to the
 * check's snapshot, with a vector, and meeting the predicate of a partial index.
 */
static Tuplesortstate *
table_tids(WinnowCheck *check)
{
	HeapScan	state = {check->index->schema.vector_attno, tid_sort_begin()};
	IndexInfo  *info = BuildIndexInfo(check->rel);
	TableScanDesc scan = table_beginscan_strat(check->heap, check->snapshot, 0, NULL, true, true);

	/* the table is scanned with our snapshot, as CREATE INDEX CONCURRENTLY does */
	info->ii_Concurrent = true;
	table_index_build_scan(check->heap, check->rel, info, true, false, heap_row, &state, scan);
	tuplesort_performsort(state.tids);
	return state.tids;
}

/* The walk has to start again */
void
winnow_check_heap_cancel(WinnowCheck *check)
{
	winnow_fetch_end(check->fetch);
	tuplesort_end(check->tids);
	UnregisterSnapshot(check->snapshot);
}

/*
 * After the last row: no TID twice, and, if it is asked for, no row of the table
 * missing.
 */
void
winnow_check_heap_end(WinnowCheck *check, bool heapallindexed)
{
	const char *heap_name = RelationGetRelationName(check->heap);
	Tuplesortstate *wanted = heapallindexed ? table_tids(check) : NULL;
	uint64		want = wanted ? tid_sort_next(wanted) : NO_TID;
	uint64		previous = NO_TID;
	uint64		have;

	winnow_fetch_end(check->fetch);
	tuplesort_performsort(check->tids);
	do
	{
		have = tid_sort_next(check->tids);
		if (have == previous && have != NO_TID && !winnow_check_replayed(check))
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("index \"%s\" has row %s of table \"%s\" twice",
							RelationGetRelationName(check->rel), tid_text(have), heap_name),
					 errhint("Rebuild the index with REINDEX.")));
		previous = have;
		if (want < have)
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("index \"%s\" lacks row %s of table \"%s\"",
							RelationGetRelationName(check->rel), tid_text(want), heap_name),
					 errhint("Rebuild the index with REINDEX.")));
		if (want == have && want != NO_TID)
			want = tid_sort_next(wanted);
	} while (have != NO_TID);

	tuplesort_end(check->tids);
	if (wanted != NULL)
		tuplesort_end(wanted);
	UnregisterSnapshot(check->snapshot);
}
