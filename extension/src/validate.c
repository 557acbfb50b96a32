/*
 * validate.c
 *		Check the definition of an operator class: amvalidate.
 *
 * There are two kinds of class.  A vector class has support function 1 and one
 * ordering operator, which returns a distance.  An attribute class has support
 * function 2 and search operators: comparisons, or the two of sets, as its
 * column type has them.
 */
#include "postgres.h"

#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "attribute.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#define STRATEGY_BIT(strategy)	(UINT64CONST(1) << (strategy))
#define PROC_BIT(number)		(UINT64CONST(1) << (number))

#define COMPARISONS \
	(STRATEGY_BIT(WINNOW_STRATEGY_LESS) | STRATEGY_BIT(WINNOW_STRATEGY_LESS_EQUAL) | \
	 STRATEGY_BIT(WINNOW_STRATEGY_EQUAL) | STRATEGY_BIT(WINNOW_STRATEGY_GREATER_EQUAL) | \
	 STRATEGY_BIT(WINNOW_STRATEGY_GREATER))
/* Comparisons that a pair of types may lack */
#define OPTIONAL_COMPARISONS	STRATEGY_BIT(WINNOW_STRATEGY_NOT_EQUAL)
#define SET_OPERATORS \
	(STRATEGY_BIT(WINNOW_STRATEGY_OVERLAP) | STRATEGY_BIT(WINNOW_STRATEGY_CONTAINS))

/* Of a vector class: the only strategy there is */
#define DISTANCES		STRATEGY_BIT(1)

/* Report a fault of the definition, and remember that there was one */
#define COMPLAIN(...) \
	do \
	{ \
		ereport(INFO, \
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg(__VA_ARGS__))); \
		valid = false; \
	} while (0)

/* Support functions: known numbers, (internal) returns internal, one type */
static bool
validate_procs(CatCList *procs, const char *family)
{
	bool		valid = true;

	for (int i = 0; i < procs->n_members; i++)
	{
		Form_pg_amproc proc = (Form_pg_amproc) GETSTRUCT(&procs->members[i]->tuple);

		if (proc->amproclefttype != proc->amprocrighttype)
			COMPLAIN("winnow operator family %s contains support function %s with different left and right input types",
					 family, format_procedure(proc->amproc));
		if (proc->amprocnum < 1 || proc->amprocnum > WINNOW_NPROCS)
			COMPLAIN("winnow operator family %s contains function %s with invalid support number %d",
					 family, format_procedure(proc->amproc), proc->amprocnum);
		else if (!check_amproc_signature(proc->amproc, INTERNALOID, true, 1, 1, INTERNALOID))
			COMPLAIN("winnow operator family %s contains function %s with wrong signature for support number %d",
					 family, format_procedure(proc->amproc), proc->amprocnum);
	}
	return valid;
}

/*
 * Operators of a family of vector classes order by a distance; those of a
 * family of attribute classes search, with the strategies that are allowed.
 */
static bool
validate_operators(CatCList *operators, const char *family, bool vector, uint64 allowed)
{
	bool		valid = true;

	for (int i = 0; i < operators->n_members; i++)
	{
		Form_pg_amop op = (Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple);

		if (op->amopstrategy < 1 || op->amopstrategy > 63 ||
			(STRATEGY_BIT(op->amopstrategy) & allowed) == 0)
			COMPLAIN("winnow operator family %s contains operator %s with invalid strategy number %d",
					 family, format_operator(op->amopopr), op->amopstrategy);

		if (vector && (op->amoppurpose != AMOP_ORDER ||
					   !opfamily_can_sort_type(op->amopsortfamily, FLOAT8OID)))
			COMPLAIN("winnow operator family %s needs an ORDER BY float_ops specification for operator %s",
					 family, format_operator(op->amopopr));
		else if (!vector && (op->amoppurpose != AMOP_SEARCH || OidIsValid(op->amopsortfamily)))
			COMPLAIN("winnow operator family %s contains invalid ORDER BY specification for operator %s",
					 family, format_operator(op->amopopr));

		if (!check_amop_signature(op->amopopr, vector ? FLOAT8OID : BOOLOID,
								  op->amoplefttype, op->amoprighttype))
			COMPLAIN("winnow operator family %s contains operator %s with wrong signature",
					 family, format_operator(op->amopopr));
	}
	return valid;
}

/*
 * Each pair of types has all the operators, and each type that has operators
 * of its own has the support function.
 */
static bool
validate_groups(List *groups, const char *family, uint64 operators, uint64 procs)
{
	bool		valid = true;
	ListCell   *lc;

	foreach(lc, groups)
	{
		OpFamilyOpFuncGroup *group = (OpFamilyOpFuncGroup *) lfirst(lc);

		if ((group->operatorset & operators) != operators)
			COMPLAIN("winnow operator family %s is missing operator(s) for types %s and %s",
					 family, format_type_be(group->lefttype),
					 format_type_be(group->righttype));
		if (group->lefttype == group->righttype && group->functionset != procs)
			COMPLAIN("winnow operator family %s does not have support function %d alone for type %s",
					 family, procs == PROC_BIT(WINNOW_METRIC_PROC) ? WINNOW_METRIC_PROC : WINNOW_COLUMN_PROC,
					 format_type_be(group->lefttype));
	}
	return valid;
}

static OpFamilyOpFuncGroup *
find_group(List *groups, Oid typid)
{
	ListCell   *lc;

	foreach(lc, groups)
	{
		OpFamilyOpFuncGroup *group = (OpFamilyOpFuncGroup *) lfirst(lc);

		if (group->lefttype == typid && group->righttype == typid)
			return group;
	}
	return NULL;
}

/* The strategies that suit what support function 2 of a class says */
static uint64
column_strategies(CatCList *procs, Oid typid)
{
	for (int i = 0; i < procs->n_members; i++)
	{
		Form_pg_amproc proc = (Form_pg_amproc) GETSTRUCT(&procs->members[i]->tuple);
		const WinnowColumnType *type;

		if (proc->amprocnum != WINNOW_COLUMN_PROC || proc->amproclefttype != typid ||
			!check_amproc_signature(proc->amproc, INTERNALOID, true, 1, 1, INTERNALOID))
			continue;
		type = (const WinnowColumnType *)
			DatumGetPointer(OidFunctionCall1(proc->amproc, PointerGetDatum(NULL)));
		return type->kind == WINNOW_COLUMN_SIGNATURE ? SET_OPERATORS : COMPARISONS;
	}
	return COMPARISONS | SET_OPERATORS;
}

/*
 * Is the definition of an operator class sound?  Faults are reported at level
 * INFO, all of them; those of the family count too.
 */
bool
winnow_validate(Oid opclassoid)
{
	bool		valid = true;
	HeapTuple	class_tuple;
	HeapTuple	family_tuple;
	Form_pg_opclass opclass;
	const char *family;
	CatCList   *operators;
	CatCList   *procs;
	List	   *groups;
	OpFamilyOpFuncGroup *group;
	bool		vector;
	uint64		strategies;
	uint64		optional = 0;

	class_tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclassoid));
	if (!HeapTupleIsValid(class_tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclassoid);
	opclass = (Form_pg_opclass) GETSTRUCT(class_tuple);

	family_tuple = SearchSysCache1(OPFAMILYOID, ObjectIdGetDatum(opclass->opcfamily));
	if (!HeapTupleIsValid(family_tuple))
		elog(ERROR, "cache lookup failed for operator family %u", opclass->opcfamily);
	family = NameStr(((Form_pg_opfamily) GETSTRUCT(family_tuple))->opfname);

	operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(opclass->opcfamily));
	procs = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(opclass->opcfamily));
	groups = identify_opfamily_groups(operators, procs);
	group = find_group(groups, opclass->opcintype);
	vector = group != NULL && (group->functionset & PROC_BIT(WINNOW_METRIC_PROC)) != 0;
	strategies = vector ? DISTANCES : column_strategies(procs, opclass->opcintype);
	if (!vector && (strategies & COMPARISONS) != 0)
		optional = OPTIONAL_COMPARISONS;

	if (OidIsValid(opclass->opckeytype) && opclass->opckeytype != opclass->opcintype)
		COMPLAIN("winnow operator class %s has a storage type of its own",
				 NameStr(opclass->opcname));
	valid &= validate_procs(procs, family);
	valid &= validate_operators(operators, family, vector, strategies | optional);
	if (group == NULL)
		COMPLAIN("winnow operator class %s has neither operators nor support functions",
				 NameStr(opclass->opcname));
	else if ((group->functionset & (PROC_BIT(WINNOW_METRIC_PROC) | PROC_BIT(WINNOW_COLUMN_PROC))) == 0)
		COMPLAIN("winnow operator class %s is missing support function %d or %d",
				 NameStr(opclass->opcname), WINNOW_METRIC_PROC, WINNOW_COLUMN_PROC);
	else
		valid &= validate_groups(groups, family, strategies,
								 PROC_BIT(vector ? WINNOW_METRIC_PROC : WINNOW_COLUMN_PROC));

	ReleaseCatCacheList(procs);
	ReleaseCatCacheList(operators);
	ReleaseSysCache(family_tuple);
	ReleaseSysCache(class_tuple);
	return valid;
}
