/*
 * analyze.c
 *		ANALYZE, for a table that never had it.
 *
 * Whether a search, another index with a sort, or a sequential scan is quickest
 * depends on how many rows match, and of a table without statistics the planner
 * guesses that: on a grid of searches it then takes the quickest plan for two in
 * three, and is up to hundreds of times slower for some (DESIGN.md, section 11).
 * Autovacuum comes a minute later, or never (temporary tables), but the first
 * search right after CREATE INDEX.
 */
#include "postgres.h"

#include "winnow.h"

#include "catalog/index.h"
#include "catalog/pg_attribute.h"
#include "commands/vacuum.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "storage/lmgr.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/syscache.h"

/* Has ANALYZE seen an attribute? */
bool
winnow_has_statistics(Oid relation, AttrNumber attno)
{
	return SearchSysCacheExists3(STATRELATTINH, ObjectIdGetDatum(relation),
								 Int16GetDatum(attno), BoolGetDatum(false));
}

static bool
was_analyzed(Relation heap)
{
	for (int i = 0; i < RelationGetDescr(heap)->natts; i++)
	{
		if (winnow_has_statistics(RelationGetRelid(heap), (AttrNumber) (i + 1)))
			return true;
	}
	return false;
}

static void
analyze(Oid table)
{
	ParseState *pstate = make_parsestate(NULL);
	VacuumStmt *command = makeNode(VacuumStmt);

	command->is_vacuumcmd = false;
	command->rels = list_make1(makeVacuumRelation(NULL, table, NIL));
	ExecVacuum(pstate, command, false);
	free_parsestate(pstate);
}

/*
 * Collect statistics of a table whose index has just been built, unless it has
 * some.  Not while REINDEX or a rewrite of the table is at work, where its indexes
 * cannot be opened, and not by waiting for somebody: who waits may hold locks that
 * others wait for.
 */
void
winnow_analyze_new(Relation heap)
{
	Oid			table = RelationGetRelid(heap);
	ProgressCommandType progress;
	Oid			target;
	int64		parameters[PGSTAT_NUM_PROGRESS_PARAM];

	if (was_analyzed(heap) || ReindexIsProcessingHeap(table) ||
		!ConditionalLockRelationOid(table, ShareUpdateExclusiveLock))
		return;

	/* ANALYZE shows a progress of its own, then none */
	progress = MyBEEntry->st_progress_command;
	target = MyBEEntry->st_progress_command_target;
	memcpy(parameters, MyBEEntry->st_progress_param, sizeof(parameters));
	analyze(table);
	pgstat_progress_start_command(progress, target);
	for (int i = 0; i < PGSTAT_NUM_PROGRESS_PARAM; i++)
		pgstat_progress_update_param(i, parameters[i]);
}
