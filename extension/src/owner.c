/*
 * owner.c
 *		Whose rights index expressions run with.
 *
 * Whoever splits a list, vacuums an index or checks it has its expressions evaluated for rows
 * that he may not see.  They run with the rights of the table's owner, and from
 * PostgreSQL 17 on with a search path that is safe.  Before 17 they run with that of the session,
 * as CREATE INDEX has them: a function in them that looks names up finds what the
 * session puts in its path.  So who does not have the owner's rights anyway does not get them run then,
 * unless they look nothing up.
 */
#include "postgres.h"

#include "owner.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

/*
 * From here on index expressions are run as the table's owner would, since it is he
 * who wrote them, as REINDEX does.  An error undoes it too.
 */
void
winnow_become_owner(Relation heap, WinnowUser *user)
{
	GetUserIdAndSecContext(&user->id, &user->security);
	SetUserIdAndSecContext(heap->rd_rel->relowner,
						   user->security | SECURITY_RESTRICTED_OPERATION);
	user->nestlevel = NewGUCNestLevel();
	RestrictSearchPath();
}

void
winnow_become_user(const WinnowUser *user)
{
	AtEOXact_GUC(false, user->nestlevel);
	SetUserIdAndSecContext(user->id, user->security);
}

/* Has a function settings of its own, the search path among them? */
static bool
sets_search_path(HeapTuple function)
{
	static const char name[] = "search_path=";
	bool		isnull;
	Datum		settings = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_proconfig, &isnull);
	Datum	   *elements;
	int			count;

	if (isnull)
		return false;
	deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i < count; i++)
		if (strncmp(TextDatumGetCString(elements[i]), name, strlen(name)) == 0)
			return true;
	return false;
}

/* May a function look names up when it runs?  Compiled ones do not.  (A body of standard SQL does not, but what it calls may.) */
static bool
looks_names_up(Oid id, void *context)
{
	HeapTuple	function = SearchSysCache1(PROCOID, ObjectIdGetDatum(id));
	Oid			language;
	bool		result;

	if (!HeapTupleIsValid(function))
		elog(ERROR, "cache lookup failed for function %u", id);
	language = ((Form_pg_proc) GETSTRUCT(function))->prolang;
	result = language != INTERNALlanguageId && language != ClanguageId && !sets_search_path(function);
	ReleaseSysCache(function);
	return result;
}

/* Do expressions call functions that may look names up by the search path?  A domain's checks may. */
bool
winnow_looks_names_up(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, CoerceToDomain) || check_functions_in_node(node, looks_names_up, context) ||
		   expression_tree_walker(node, winnow_looks_names_up, context);
}

/* Does an attribute of the index's row in pg_index have such?  The relation cache would evaluate constant parts. */
static bool
has_lookups(Relation rel, AttrNumber attno)
{
	bool		isnull;
	Datum		expressions = SysCacheGetAttr(INDEXRELID, rel->rd_indextuple, attno, &isnull);

	return !isnull && winnow_looks_names_up(stringToNode(TextDatumGetCString(expressions)), NULL);
}

/* May an index's expressions be run for rows that the user need not be allowed to see? */
bool
winnow_may_run(Relation heap, Relation rel)
{
	Oid			owner = heap->rd_rel->relowner;

	return WINNOW_RESTRICTS_PATH ||
		(has_privs_of_role(GetUserId(), owner) && has_privs_of_role(GetOuterUserId(), owner)) ||
		!(has_lookups(rel, Anum_pg_index_indexprs) || has_lookups(rel, Anum_pg_index_indpred));
}
