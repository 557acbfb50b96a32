/*
 * wait.c
 *		Places where a test can make a backend wait.
 *
 * A test's session takes the advisory lock of a point; a session that has the
 * point's name in winnow.wait_points, a list, then stops there until the lock is
 * given up.  No name is part of another.  The locks are those of template1, so
 * that whoever takes them has no snapshot in the database that is tested.
 */
#include "postgres.h"

#include "winnow.h"

#ifdef WINNOW_WAIT_POINTS

#include "catalog/pg_database.h"
#include "common/hashfn.h"
#include "storage/lock.h"
#include "utils/guc.h"

/* First key of the advisory locks; the second is hashtext() of the name */
#define WAIT_POINT_CLASS 7411

static char *wait_points;

void
winnow_wait_init(void)
{
	/* hidden, so that what a server shows does not depend on the build */
	DefineCustomStringVariable("winnow.wait_points",
							   "Points where this session waits for the lock of the point.",
							   NULL, &wait_points, "", PGC_USERSET,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}

/*
 * Where pages are locked, the wait cannot be cancelled, nor can that of others for
 * these pages; a test has to give up its lock in any case.
 */
void
winnow_wait_at(const char *point)
{
	LOCKTAG		tag;

	if (strstr(wait_points, point) == NULL)
		return;
	SET_LOCKTAG_ADVISORY(tag, Template1DbOid, WAIT_POINT_CLASS,
						 hash_bytes((const unsigned char *) point, strlen(point)), 2);
	(void) LockAcquire(&tag, ShareLock, false, false);
	LockRelease(&tag, ShareLock, false);
}

#endif							/* WINNOW_WAIT_POINTS */
