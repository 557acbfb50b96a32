/*
 * out_of_line.c
 *		Values stored out of line, of a row that may be going.
 *
 * What has been deleted, or was never committed, VACUUM takes away: the table's
 * own run the rows, and one of the TOAST table alone the values.  Whether a row
 * is there can be found out, but its transaction may fail the moment after, so
 * its values may be gone when they are read.  PostgreSQL's own function
 * (heap_fetch_toast_slice in access/heap/heaptoast.c) takes that for corruption;
 * these report it.
 */
#include "postgres.h"

#include "fetch.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "utils/fmgroids.h"

/*
 * One chunk of the value, of which "done" bytes have been read.  Returns its
 * length, 0 if it does not follow those before it.
 */
static int32
add_chunk(HeapTuple tuple, TupleDesc desc, int32 number, struct varlena *result, int32 done)
{
	bool		null_number;
	bool		null_data;
	Datum		found = fastgetattr(tuple, 2, desc, &null_number);
	Datum		data = fastgetattr(tuple, 3, desc, &null_data);
	struct varlena *chunk = (struct varlena *) DatumGetPointer(data);
	int32		length;

	if (!null_number && DatumGetInt32(found) != number)
		return 0;
	if (null_number || null_data || VARATT_IS_EXTERNAL(chunk) || VARATT_IS_COMPRESSED(chunk) ||
		VARSIZE_ANY_EXHDR(chunk) > VARSIZE(result) - VARHDRSZ - done)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("chunk %d of an out-of-line value is not as it should be", number)));
	length = (int32) VARSIZE_ANY_EXHDR(chunk);
	memcpy((char *) result + VARHDRSZ + done, VARDATA_ANY(chunk), length);
	return length;
}

/* The bytes of a value, compressed or not; false if some are missing */
static bool
read_chunks(const struct varatt_external *where, struct varlena *result)
{
	Relation	toast = table_open(where->va_toastrelid, AccessShareLock);
	int32		size = (int32) VARATT_EXTERNAL_GET_EXTSIZE(*where);
	int32		done = 0;
	int32		number = 0;
	Relation   *indexes;
	int			nindexes;
	int			valid = toast_open_indexes(toast, AccessShareLock, &indexes, &nindexes);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(where->va_valueid));

	/* as where a value's name is chosen: no two values have the same, dead or not */
	scan = systable_beginscan_ordered(toast, indexes[valid], SnapshotAny, 1, &key);
	while (done < size &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		int32		length = add_chunk(tuple, RelationGetDescr(toast), number++, result, done);

		if (length == 0)
			break;
		done += length;
	}
	systable_endscan_ordered(scan);
	toast_close_indexes(indexes, nindexes, AccessShareLock);
	table_close(toast, AccessShareLock);
	return done == size;
}

/*
 * If the value is out of line, replace it by one in line (maybe a compressed
 * one), in the current memory context.  Returns false if it is gone.
 */
static bool
read_value(Datum *value)
{
	struct varlena *pointer = (struct varlena *) DatumGetPointer(*value);
	struct varatt_external where;
	struct varlena *result;
	Size		size;

	if (!VARATT_IS_EXTERNAL_ONDISK(pointer))
		return true;
	WINNOW_WAIT_POINT("out-of-line");
	VARATT_EXTERNAL_GET_POINTER(where, pointer);
	size = VARATT_EXTERNAL_GET_EXTSIZE(where) + VARHDRSZ;
	result = palloc(size);
	if (size < (Size) where.va_rawsize)
		SET_VARSIZE_COMPRESSED(result, size);
	else
		SET_VARSIZE(result, size);
	*value = PointerGetDatum(result);
	return read_chunks(&where, result);
}

/*
 * Lock what values out of line are read from, so that who reads them with pages
 * locked does not wait for a lock: the deadlock that could come of it would not be
 * found.
 */
List *
winnow_lock_out_of_line(Relation heap)
{
	Oid			toastid = heap->rd_rel->reltoastrelid;
	List	   *locked = NIL;
	Relation	toast;
	ListCell   *cell;

	if (!OidIsValid(toastid))
		return NIL;
	toast = table_open(toastid, AccessShareLock);
	locked = RelationGetIndexList(toast);
	foreach(cell, locked)
		LockRelationOid(lfirst_oid(cell), AccessShareLock);
	table_close(toast, NoLock);
	return lappend_oid(locked, toastid);
}

void
winnow_unlock_out_of_line(List *locked)
{
	ListCell   *cell;

	foreach(cell, locked)
		UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
}

/*
 * Read the values of a row, of all columns that are given, and leave them in the
 * slot.  They are in the current memory context.  Returns false if one is gone.
 *
 * columns: numbers less FirstLowInvalidHeapAttributeNumber, as pull_varattnos
 * gives them; 0 among them means all.
 */
bool
winnow_read_out_of_line(TupleTableSlot *slot, const Bitmapset *columns)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	bool		all = bms_is_member(-FirstLowInvalidHeapAttributeNumber, columns);

	for (AttrNumber column = 1; column <= desc->natts; column++)
	{
		if (!all && !bms_is_member(column - FirstLowInvalidHeapAttributeNumber, columns))
			continue;
		slot_getsomeattrs(slot, column);
		if (TupleDescAttr(desc, column - 1)->attlen == -1 && !slot->tts_isnull[column - 1] &&
			!read_value(&slot->tts_values[column - 1]))
			return false;
	}
	return true;
}
