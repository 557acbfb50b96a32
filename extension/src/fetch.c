/*
 * fetch.c
 *		The indexed values of a heap row, given its TID.
 *
 * Index expressions are evaluated as the executor would.
 */
#include "postgres.h"

#include "fetch.h"

#include "access/heapam.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/spccache.h"

/* Bytes of a row that the processor is asked for */
#define MAX_ROW_AHEAD	2048

struct WinnowFetch
{
	Relation	rel;			/* the index */
	IndexFetchTableData *heap;
	BlockNumber blocks;			/* of the table, when last asked */
	TupleTableSlot *slot;
	Bitmapset  *wanted;			/* columns of the index */
	Bitmapset  *columns;		/* of the heap, that these are made from */
	ExprState **expressions;	/* by column of the index; NULL: it is one of the heap's */
	EState	   *estate;			/* NULL: no expression is wanted */
	MemoryContext row_context;	/* reset for every row */
};

/* All columns of an index, for winnow_fetch_begin */
Bitmapset *
winnow_all_columns(Relation rel)
{
	return bms_add_range(NULL, 0, RelationGetNumberOfAttributes(rel) - 1);
}

/* Prepare the expressions among the columns wanted.  The others are not evaluated: they are somebody's code. */
static void
prepare_expressions(WinnowFetch *fetch)
{
	List	   *expressions = RelationGetIndexExpressions(fetch->rel);
	ListCell   *next = list_head(expressions);

	for (int i = 0; i < RelationGetNumberOfAttributes(fetch->rel); i++)
	{
		AttrNumber	column = fetch->rel->rd_index->indkey.values[i];
		Node	   *expression = NULL;

		if (column == 0)
		{
			expression = lfirst(next);
			next = lnext(expressions, next);
		}
		if (!bms_is_member(i, fetch->wanted))
			continue;
		if (expression == NULL)
		{
			fetch->columns = bms_add_member(fetch->columns,
											column - FirstLowInvalidHeapAttributeNumber);
			continue;
		}
		pull_varattnos(expression, 1, &fetch->columns);
		if (fetch->estate == NULL)
			fetch->estate = CreateExecutorState();
		fetch->expressions[i] = ExecPrepareExpr((Expr *) expression, fetch->estate);
	}
}

/*
 * "wanted" are columns of the index, from 0: only their values are filled in.  It becomes the fetch's.
 */
WinnowFetch *
winnow_fetch_begin(Relation heap, Relation rel, Bitmapset *wanted)
{
	WinnowFetch *fetch = palloc0(sizeof(WinnowFetch));

	fetch->rel = rel;
	fetch->heap = table_index_fetch_begin(heap);
	fetch->slot = table_slot_create(heap, NULL);
	fetch->wanted = wanted;
	fetch->expressions = palloc0(sizeof(ExprState *) * RelationGetNumberOfAttributes(rel));
	prepare_expressions(fetch);
	fetch->row_context = AllocSetContextCreate(CurrentMemoryContext, "winnow fetched row",
											   ALLOCSET_DEFAULT_SIZES);
	return fetch;
}

/* The columns that it fills in */
const Bitmapset *
winnow_fetch_wanted(const WinnowFetch *fetch)
{
	return fetch->wanted;
}

/* Where to do per-row work: it is reset by the next fetch */
MemoryContext
winnow_fetch_context(WinnowFetch *fetch)
{
	return fetch->row_context;
}

/*
 * Can the TID be one of the table's?  The table is not truncated while someone
 * has it open.
 */
bool
winnow_fetch_in_table(WinnowFetch *fetch, uint64 id)
{
	BlockNumber block = winnow_tid_block(id);

	if (block >= fetch->blocks)
		fetch->blocks = RelationGetNumberOfBlocks(fetch->heap->rel);
	return winnow_tid_offset(id) != InvalidOffsetNumber && block < fetch->blocks;
}

/*
 * Put the row version at the TID that the snapshot accepts into the slot.
 * Returns false if there is no such version.
 *
 * With a snapshot that accepts several versions of a HOT chain the last one is
 * taken: it is the one that an index with broken chains was built from.
 */
static bool
find_row(WinnowFetch *fetch, uint64 id, Snapshot snapshot)
{
	ItemPointerData tid;
	bool		again = false;
	bool		found = false;

	MemoryContextReset(fetch->row_context);
	winnow_tid_unpack(id, &tid);
	if (!winnow_fetch_in_table(fetch, id))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" points to row (%u,%u), which table \"%s\" does not have",
						RelationGetRelationName(fetch->rel),
						ItemPointerGetBlockNumberNoCheck(&tid),
						ItemPointerGetOffsetNumberNoCheck(&tid),
						RelationGetRelationName(fetch->heap->rel)),
				 errhint("Rebuild the index with REINDEX.")));
	while (table_index_fetch_tuple(fetch->heap, &tid, snapshot, fetch->slot, &again, NULL))
	{
		found = true;
		if (!again)
			break;
	}
	return found;
}

/*
 * Fill values and isnull of some columns of the index, which are among those wanted, from the row
 * that was fetched last.  They are good until the next call.
 */
void
winnow_fetch_values(WinnowFetch *fetch, const Bitmapset *columns, Datum *values, bool *isnull)
{
	ExprContext *context = NULL;
	MemoryContext old = MemoryContextSwitchTo(fetch->row_context);

	if (fetch->estate != NULL)
	{
		ResetPerTupleExprContext(fetch->estate);
		context = GetPerTupleExprContext(fetch->estate);
		context->ecxt_scantuple = fetch->slot;
	}
	for (int i = -1; (i = bms_next_member(columns, i)) >= 0;)
		if (fetch->expressions[i] != NULL)
			values[i] = ExecEvalExprSwitchContext(fetch->expressions[i], context, &isnull[i]);
		else
			values[i] = slot_getattr(fetch->slot, fetch->rel->rd_index->indkey.values[i],
									 &isnull[i]);
	MemoryContextSwitchTo(old);
}

/*
 * Fetch the row version at the TID that the snapshot accepts.
 * place is what winnow_fetch_prepare has found.
 * Returns false if there is no such version.  The snapshot is one that VACUUM
 * heeds: values out of line are there.
 */
bool
winnow_fetch_row(WinnowFetch *fetch, uint64 id, const WinnowRowPlace *place, Snapshot snapshot)
{
	winnow_fetch_hold(fetch->heap, id, place);
	return find_row(fetch, id, snapshot);
}

/*
 * The vector of an index row, in index space.  Returns false if the row has been
 * deleted or was never committed, which may be the case from one moment to the
 * next: VACUUM may be removing its out-of-line values, so they cannot be read.
 */
bool
winnow_fetch_vector(WinnowFetch *fetch, const WinnowIndex *index, uint64 id, float *vector)
{
	int			attno = index->schema.vector_attno;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	SnapshotData dirty;
	MemoryContext old;
	bool		there;

	InitDirtySnapshot(dirty);
	if (!find_row(fetch, id, &dirty))
		return false;
	old = MemoryContextSwitchTo(fetch->row_context);
	there = winnow_read_out_of_line(fetch->slot, fetch->columns);
	MemoryContextSwitchTo(old);
	if (!there)
		return false;
	winnow_fetch_values(fetch, fetch->wanted, values, isnull);
	if (isnull[attno])
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" points to row (%u,%u), which has no vector",
						RelationGetRelationName(fetch->rel), winnow_tid_block(id), winnow_tid_offset(id)),
				 errhint("Rebuild the index with REINDEX.")));
	old = MemoryContextSwitchTo(fetch->row_context);
	winnow_index_vector(index, values[attno], vector);
	MemoryContextSwitchTo(old);
	return true;
}

/* The row that was fetched last, until the next */
TupleTableSlot *
winnow_fetch_slot(WinnowFetch *fetch)
{
	return fetch->slot;
}

/* Where the row that was fetched last is */
WinnowRowPlace
winnow_fetch_place(WinnowFetch *fetch)
{
	WinnowRowPlace place = {InvalidBuffer, 0};

	if (TTS_IS_BUFFERTUPLE(fetch->slot))
	{
		BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) fetch->slot;

		if (BufferIsValid(slot->buffer) && !BufferIsLocal(slot->buffer))
		{
			place.buffer = slot->buffer;
			place.offset = (char *) slot->base.tuple->t_data - (char *) BufferGetPage(slot->buffer);
		}
	}
	return place;
}

/* Ask the processor for a row */
void
winnow_fetch_ahead(const WinnowRowPlace *place)
{
	const char *page;

	if (place->buffer == InvalidBuffer)
		return;
	page = BufferGetPage(place->buffer);
	__builtin_prefetch(GetBufferDescriptor(place->buffer - 1));
	__builtin_prefetch(page);
	__builtin_prefetch(page + place->offset);
}

/*
 * Make ready for the fetches of some rows, which otherwise wait for memory one
 * by one: for the buffer table, the page's header, the row.  Here the processor
 * is asked for all at once, and the kernel for what is not in shared buffers.
 * Where the pages are is remembered in places, for winnow_fetch_hold.
 */
void
winnow_fetch_prepare(WinnowFetch *fetch, const uint64 *ids, int n, WinnowRowPlace *places)
{
	Relation	heap = fetch->heap->rel;
	bool		ahead = heap->rd_tableam == GetHeapamTableAmRoutine() &&
		get_tablespace_io_concurrency(heap->rd_rel->reltablespace) > 0;

	for (int i = 0; i < n; i++)
	{
		Buffer		buffer = InvalidBuffer;

		if (ahead && winnow_fetch_in_table(fetch, ids[i]))
			buffer = PrefetchBuffer(heap, MAIN_FORKNUM, winnow_tid_block(ids[i])).recent_buffer;
		places[i] = (WinnowRowPlace){InvalidBuffer, 0};
		if (BufferIsValid(buffer) && !BufferIsLocal(buffer))
		{
			places[i].buffer = buffer;
			/* with the row's line pointer, if it is among the first */
			winnow_fetch_ahead(&places[i]);
		}
	}
	for (int i = 0; i < n; i++)
	{
		OffsetNumber offset = winnow_tid_offset(ids[i]);
		Page		page;
		const ItemIdData *row;

		if (places[i].buffer == InvalidBuffer || offset == 0 || offset > MaxHeapTuplesPerPage)
			continue;

		/* not pinned: whatever is read here, all that depends on it is which lines come */
		page = BufferGetPage(places[i].buffer);
		row = PageGetItemId(page, offset);
		places[i].offset = ItemIdGetOffset(row) % BLCKSZ;
		for (int line = 0; line < (int) ItemIdGetLength(row) && line < MAX_ROW_AHEAD; line += WINNOW_LINE)
			__builtin_prefetch((const char *) page + (places[i].offset + line) % BLCKSZ);
	}
}

/*
 * Let a fetch from the table have the page of a row that it is to fetch next, if
 * it is where it was: then it need not be looked up.
 */
void
winnow_fetch_hold(IndexFetchTableData *fetch, uint64 id, const WinnowRowPlace *place)
{
	IndexFetchHeapData *heap = (IndexFetchHeapData *) fetch;
	BlockNumber block = winnow_tid_block(id);

	if (place->buffer == InvalidBuffer || fetch == NULL ||
		fetch->rel->rd_tableam != GetHeapamTableAmRoutine())
		return;
	if (BufferIsValid(heap->xs_cbuf) && BufferGetBlockNumber(heap->xs_cbuf) == block)
		return;
	if (!winnow_read_recent_buffer(fetch->rel, block, place->buffer))
		return;
	if (BufferIsValid(heap->xs_cbuf))
		ReleaseBuffer(heap->xs_cbuf);
	heap->xs_cbuf = place->buffer;

	/* as a fetch does that comes to another page */
	heap_page_prune_opt(fetch->rel, place->buffer);
}

/* Let go of the heap page held, before control goes back to the executor */
void
winnow_fetch_idle(WinnowFetch *fetch)
{
	ExecClearTuple(fetch->slot);
	table_index_fetch_reset(fetch->heap);
}

void
winnow_fetch_end(WinnowFetch *fetch)
{
	ExecDropSingleTupleTableSlot(fetch->slot);
	table_index_fetch_end(fetch->heap);
	if (fetch->estate)
		FreeExecutorState(fetch->estate);
	MemoryContextDelete(fetch->row_context);
	pfree(fetch);
}
