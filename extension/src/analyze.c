/*
 * analyze.c
 *		ANALYZE, for a table that never had it.
 *
 * Whether a search, another index with a sort, or a sequential scan is quickest
 * depends on how many rows match, and of a table without statistics the planner
 * guesses that: on a grid of searches it then takes the quickest plan for two in
 * three, and is up to hundreds of times slower for some (MEASUREMENTS.md, section 11).
 * Autovacuum comes a minute later, or never (temporary tables); the first search
 * does not wait for it.
 *
 * What would surprise who makes an index is left to autovacuum: see may_analyze().
 */
#include "postgres.h"

#include "winnow.h"

#include "catalog/index.h"
#include "catalog/pg_attribute.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Has ANALYZE seen an attribute? */
bool
winnow_has_statistics(Oid relation, AttrNumber attno)
{
	return SearchSysCacheExists3(STATRELATTINH, ObjectIdGetDatum(relation),
								 Int16GetDatum(attno), BoolGetDatum(false));
}

/* The names of a table's columns; none, if ANALYZE has seen one of them */
static List *
unknown_columns(Relation heap)
{
	TupleDesc	desc = RelationGetDescr(heap);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (winnow_has_statistics(RelationGetRelid(heap), attribute->attnum))
			return NIL;
		if (!attribute->attisdropped)
			names = lappend(names, makeString(pstrdup(NameStr(attribute->attname))));
	}
	return names;
}

/*
 * The lock is not taken if that takes waiting.  While REINDEX or a rewrite of
 * the table is at work its indexes cannot be opened.  With a table that has
 * children these would be read, and with extended statistics, expressions
 * evaluated that are no part of the index.  Who we are during a build is the owner.
 */
static bool
may_analyze(Relation heap)
{
	return !ReindexIsProcessingHeap(RelationGetRelid(heap)) &&
		!heap->rd_rel->relhassubclass &&
		RelationGetStatExtList(heap) == NIL &&
		winnow_owner_maintains(RelationGetRelid(heap)) &&
		ConditionalLockRelationOid(RelationGetRelid(heap), ShareUpdateExclusiveLock);
}

static void
analyze(Oid table, List *columns)
{
	ParseState *pstate = make_parsestate(NULL);
	VacuumStmt *command = makeNode(VacuumStmt);

	command->is_vacuumcmd = false;
	command->rels = list_make1(makeVacuumRelation(NULL, table, columns));
	ExecVacuum(pstate, command, false);
	free_parsestate(pstate);
}

/*
 * Collect statistics of a table whose index has just been built, unless it has
 * some.  All columns are named, because ANALYZE then evaluates no expressions of other
 * indexes, and does not tell autovacuum that it need not come: the transaction may
 * yet be rolled back.
 */
void
winnow_analyze_new(Relation heap)
{
	List	   *columns = unknown_columns(heap);
	ProgressCommandType progress;
	Oid			target;
	int64		parameters[PGSTAT_NUM_PROGRESS_PARAM];

	if (columns == NIL || !may_analyze(heap))
		return;

	/* ANALYZE shows a progress of its own, then none */
	progress = MyBEEntry->st_progress_command;
	target = MyBEEntry->st_progress_command_target;
	memcpy(parameters, MyBEEntry->st_progress_param, sizeof(parameters));
	analyze(RelationGetRelid(heap), columns);

	/*
	 * Ours, and that of ANALYZE, which would keep it to the end of the transaction: others that make an
	 * index of the table would wait for it.  Until then CREATE INDEX's own lock keeps other ANALYZEs away.
	 */
	UnlockRelationOid(RelationGetRelid(heap), ShareUpdateExclusiveLock);
	UnlockRelationOid(RelationGetRelid(heap), ShareUpdateExclusiveLock);
	pgstat_progress_start_command(progress, target);
	for (int i = 0; i < PGSTAT_NUM_PROGRESS_PARAM; i++)
		pgstat_progress_update_param(i, parameters[i]);
}
