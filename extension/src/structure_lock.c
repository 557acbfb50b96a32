/*
 * structure_lock.c
 *		The lock of an index for whatever changes the shape of its tree.
 *
 * DESIGN.md, section 3.  It is a lock of an object, not of a page: while a page is
 * locked PostgreSQL 15 and 16 allow no other heavyweight lock to be taken, as their detection of
 * deadlocks passes over it (lock.c, deadlock.c).
 */
#include "postgres.h"

#include "winnow.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lock.h"

/* That of the index as a relation has none */
#define SUBOBJECT 1

static LOCKTAG
lock_tag(Relation rel)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, RelationGetRelid(rel), SUBOBJECT);
	return tag;
}

/* Wait for it */
void
winnow_structure_lock(Relation rel)
{
	LOCKTAG		tag = lock_tag(rel);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Take it if it is free */
bool
winnow_structure_try_lock(Relation rel)
{
	LOCKTAG		tag = lock_tag(rel);

	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
winnow_structure_unlock(Relation rel)
{
	LOCKTAG		tag = lock_tag(rel);

	(void) LockRelease(&tag, ExclusiveLock, false);
}
