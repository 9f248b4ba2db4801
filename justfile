# The commands of the project. They use the virtual environment in .venv.

bin := justfile_directory() / ".venv/bin"

# List the commands.
default:
    @{{ bin }}/just --list

# Format, lint, types and layers, in under a minute.
check:
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy
    {{ bin }}/pytest -q tests/house/test_structure.py

# Format the code and apply safe lint fixes.
fix:
    {{ bin }}/ruff format .
    {{ bin }}/ruff check --fix .

# All tests on SQLite and PostgreSQL; arguments go to pytest.
test *arguments:
    {{ bin }}/pytest -n auto {{ arguments }}

# All tests with ten times as many random cases; arguments go to pytest.
thorough *arguments:
    TEST_EFFORT=10 {{ bin }}/pytest -n auto {{ arguments }}

# Coverage of app and rest_shim by tests on SQLite, without long ones that repeat the paths of others.
coverage *arguments:
    {{ bin }}/pytest -n auto --cov -k sqlite -m "not long" \
        tests/rest tests/graphql tests/files tests/webhooks tests/live \
        --ignore tests/graphql/test_parity.py --ignore tests/graphql/test_paging.py \
        --ignore tests/graphql/test_executor.py --ignore tests/graphql/test_inputs.py \
        --ignore tests/graphql/test_queries.py --ignore tests/graphql/test_one_id.py \
        --ignore tests/rest/test_alphabet.py --ignore tests/rest/test_cursors.py {{ arguments }}

# Break the code in many places and check that the tests notice.
mutants:
    {{ bin }}/python -m tests.mutants

# Write schema.graphql.
schema:
    {{ bin }}/inventory schema > schema.graphql

# Write the derived parts of the documentation.
docs:
    {{ bin }}/python -m tests.house.generated

# Generate clients with other tools, compile them, and call a demo with them; needs a network.
clients:
    {{ bin }}/python -m tests.clients

# Write the installed versions to constraints.txt.
constraints:
    head -2 constraints.txt > constraints.new
    {{ bin }}/pip freeze --exclude-editable >> constraints.new
    mv constraints.new constraints.txt

# Compare the speed with hand-written SQL and other stacks; needs wrk and the benchmark extra.
bench *arguments:
    {{ bin }}/python -m benchmarks {{ arguments }}
