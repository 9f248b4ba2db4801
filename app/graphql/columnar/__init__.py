"""Column-wise execution of GraphQL operations: see README.md in this folder."""

from app.graphql.columnar.executor import BudgetedExecutor, ColumnarExecutor
from app.graphql.columnar.fields import ColumnarField
from app.graphql.columnar.operation import OperationPlans

__all__ = ["BudgetedExecutor", "ColumnarExecutor", "ColumnarField", "OperationPlans"]
