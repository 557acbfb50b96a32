/*
 * compat.h
 *		Differences between the PostgreSQL versions winnow supports (15 to 18).
 *
 * No other file tests PG_VERSION_NUM.
 */
#ifndef WINNOW_COMPAT_H
#define WINNOW_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "catalog/pg_attribute.h"
#include "miscadmin.h"
#include "nodes/pathnodes.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/multibitmapset.h"
#endif
#include "optimizer/clauses.h"
#include "postmaster/autovacuum.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/tuplesort.h"

#if PG_VERSION_NUM < 150000
#error "winnow needs PostgreSQL 15 or later"
#endif

#ifndef pg_noreturn
#define pg_noreturn _Noreturn
#endif

/*
 * Is the content lock of a pinned buffer ours already?  Taking it again would
 * wait for ever.
 */
static inline bool
winnow_buffer_locked(Buffer buffer)
{
	return !BufferIsLocal(buffer) &&
		LWLockHeldByMe(BufferDescriptorGetContentLock(GetBufferDescriptor(buffer - 1)));
}

/* Code that is run with its owner's rights must not look up names on the user's path */
#if PG_VERSION_NUM >= 170000
#define WINNOW_RESTRICTS_PATH true
#else
#define WINNOW_RESTRICTS_PATH false
#define RestrictSearchPath() ((void) 0)
#endif

/* Is this autovacuum? */
#if PG_VERSION_NUM >= 170000
#define winnow_is_autovacuum() AmAutoVacuumWorkerProcess()
#else
#define winnow_is_autovacuum() IsAutoVacuumWorkerProcess()
#endif

/* May the current user, who owns the table, run ANALYZE on it?  An owner can be denied that from 17 on. */
#if PG_VERSION_NUM >= 170000
#define winnow_owner_maintains(table) \
	(pg_class_aclcheck(table, GetUserId(), ACL_MAINTAIN) == ACLCHECK_OK)
#else
#define winnow_owner_maintains(table) true
#endif

/* The next datum of a finished sort of pass-by-value datums */
static inline bool
winnow_tuplesort_next(Tuplesortstate *sort, Datum *value)
{
	bool		isnull;

#if PG_VERSION_NUM >= 160000
	return tuplesort_getdatum(sort, true, false, value, &isnull, NULL);
#else
	return tuplesort_getdatum(sort, true, value, &isnull, NULL);
#endif
}

/* ReadRecentBuffer, and the number that names a relation's files */
#if PG_VERSION_NUM >= 160000
#define winnow_relation_number(rel) ((uint32) (rel)->rd_locator.relNumber)
#define winnow_read_recent_buffer(rel, block, buffer) \
	ReadRecentBuffer((rel)->rd_locator, MAIN_FORKNUM, block, buffer)
#else
#define winnow_relation_number(rel) ((uint32) (rel)->rd_node.relNode)
#define winnow_read_recent_buffer(rel, block, buffer) \
	ReadRecentBuffer((rel)->rd_node, MAIN_FORKNUM, block, buffer)
#endif

/* Can an extension add lines to EXPLAIN? */
#if PG_VERSION_NUM >= 180000
#define WINNOW_HAVE_EXPLAIN_HOOK 1
#endif

/*
 * A new page at the end of the relation, zeroed, exclusively locked.  Several
 * processes may be building a relation that is new in its transaction.
 */
static inline Buffer
winnow_extend_relation(Relation rel, ForkNumber fork)
{
#if PG_VERSION_NUM >= 160000
	return ExtendBufferedRel(BMR_REL(rel), fork, NULL, EB_LOCK_FIRST);
#else
	bool		lock = !rel->rd_islocaltemp;
	Buffer		buffer;

	if (lock)
		LockRelationForExtension(rel, ExclusiveLock);
	buffer = ReadBufferExtended(rel, fork, P_NEW, RBM_NORMAL, NULL);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (lock)
		UnlockRelationForExtension(rel, ExclusiveLock);
	return buffer;
#endif
}

/*
 * Index builds: how many workers the server plans for one.  Before 17 it asks
 * itself for its own B-trees alone.
 */
#if PG_VERSION_NUM >= 170000
#define WINNOW_BUILD_PARALLEL(am) ((am)->amcanbuildparallel = true)
#define winnow_planned_workers(heap, rel, info) ((info)->ii_ParallelWorkers)
#else
#define WINNOW_BUILD_PARALLEL(am) ((void) 0)
#define winnow_planned_workers(heap, rel, info) \
	plan_create_index_workers(RelationGetRelid(heap), RelationGetRelid(rel))
#endif

/* Can a column of a plan's table not be null?  (From 18 on a constraint may not hold for all rows.) */
static inline bool
winnow_not_null(const RangeTblEntry *rte, const RelOptInfo *rel, AttrNumber attno)
{
#if PG_VERSION_NUM >= 170000
	return bms_is_member(attno, rel->notnullattnums);
#else
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(rte->relid), Int16GetDatum(attno));
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
#endif
}

/*
 * May rows be taken for missing ones of an outer join whose order is that of the relation's columns all the
 * same?  From 16 on an order of what a join may make null is another one.
 */
static inline bool
winnow_may_be_extended(const PlannerInfo *root, const RelOptInfo *rel)
{
#if PG_VERSION_NUM >= 160000
	return false;
#else
	return bms_overlap(rel->top_parent_relids ? rel->top_parent_relids : rel->relids,
					   root->nullable_baserels);
#endif
}

/* Do conditions reject every row in which a column is null? */
static inline bool
winnow_is_nonnullable(Node *conditions, Index relid, AttrNumber attno)
{
	List	   *columns = find_nonnullable_vars(conditions);

#if PG_VERSION_NUM >= 160000
	return mbms_is_member((int) relid, attno - FirstLowInvalidHeapAttributeNumber, columns);
#else
	ListCell   *cell;

	foreach(cell, columns)
	{
		const Var  *var = lfirst_node(Var, cell);

		if (var->varno == (int) relid && var->varattno == attno)
			return true;
	}
	return false;
#endif
}

/* amcostestimate: paths that must not be used are disabled, not just dear */
#if PG_VERSION_NUM >= 180000
#define WINNOW_DISABLE_PATH(path) ((path)->path.disabled_nodes = 2)
#else
#define WINNOW_DISABLE_PATH(path) ((void) 0)
#endif

/* Parameters of ExecutorRun_hook, and how to hand them on */
#if PG_VERSION_NUM >= 180000
#define WINNOW_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define WINNOW_RUN_ARGUMENTS query, direction, count
#else
#define WINNOW_RUN_PARAMETERS \
	QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define WINNOW_RUN_ARGUMENTS query, direction, count, once
#endif

/* VACUUM's nap */
#if PG_VERSION_NUM >= 180000
#define winnow_vacuum_delay() vacuum_delay_point(false)
#else
#define winnow_vacuum_delay() vacuum_delay_point()
#endif

/* "Index Searches" of EXPLAIN ANALYZE */
#if PG_VERSION_NUM >= 180000
#define WINNOW_COUNT_SEARCH(scan) \
	do \
	{ \
		if ((scan)->instrument) \
			(scan)->instrument->nsearches++; \
	} while (0)
#else
#define WINNOW_COUNT_SEARCH(scan) ((void) 0)
#endif

/* Input functions report faults through the caller's context, where there is one */
#if PG_VERSION_NUM < 160000
#define errsave(context, ...) ereport(ERROR, __VA_ARGS__)
#endif

/* VARDATA_ANY and its kind moved out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Attributes: does the collation sort strings as memcmp does? */
static inline bool
winnow_collation_is_c(Oid collation)
{
#if PG_VERSION_NUM >= 180000
	return pg_newlocale_from_collation(collation)->collate_is_c;
#else
	return lc_collate_is_c(collation);
#endif
}

#endif							/* WINNOW_COMPAT_H */
