/*
 * fetch.h
 *		Rows of the table: vectors and keys, and values that are stored out of line.
 */
#ifndef WINNOW_FETCH_H
#define WINNOW_FETCH_H

#include "winnow.h"

/* fetch.c: vectors and keys from the heap */
typedef struct WinnowFetch WinnowFetch;

/* Are the vectors values of an index expression? */
#define winnow_vector_computed(rel, index) \
	((rel)->rd_index->indkey.values[(index)->schema.vector_attno] == 0)

extern Bitmapset *winnow_all_columns(Relation rel);
extern WinnowFetch *winnow_fetch_begin(Relation heap, Relation rel, Bitmapset *wanted);
extern const Bitmapset *winnow_fetch_wanted(const WinnowFetch *fetch);
extern bool winnow_fetch_in_table(WinnowFetch *fetch, uint64 id);
extern MemoryContext winnow_fetch_context(WinnowFetch *fetch);
extern TupleTableSlot *winnow_fetch_slot(WinnowFetch *fetch);

/* Where in shared buffers a row was: a hint */
typedef struct WinnowRowPlace
{
	Buffer		buffer;			/* InvalidBuffer if not known */
	uint16		offset;			/* of the row in the page */
} WinnowRowPlace;

extern void winnow_fetch_prepare(WinnowFetch *fetch, const uint64 *ids, int n,
								 WinnowRowPlace *places);
extern bool winnow_fetch_row(WinnowFetch *fetch, uint64 id, const WinnowRowPlace *place, Snapshot snapshot);
extern void winnow_fetch_values(WinnowFetch *fetch, const Bitmapset *columns, Datum *values, bool *isnull);
extern bool winnow_fetch_vector(WinnowFetch *fetch, const WinnowIndex *index, uint64 id, float *vector);
extern WinnowRowPlace winnow_fetch_place(WinnowFetch *fetch);
extern void winnow_fetch_ahead(const WinnowRowPlace *place);
extern void winnow_fetch_hold(IndexFetchTableData *fetch, uint64 id, const WinnowRowPlace *place);
extern void winnow_fetch_idle(WinnowFetch *fetch);
extern void winnow_fetch_end(WinnowFetch *fetch);

/* out_of_line.c */
extern List *winnow_lock_out_of_line(Relation heap);
extern void winnow_unlock_out_of_line(List *locked);
extern bool winnow_read_out_of_line(TupleTableSlot *slot, const Bitmapset *columns);

#endif							/* WINNOW_FETCH_H */
