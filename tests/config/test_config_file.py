"""`database.yaml`: references, types, known keys, and errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata._config.interpolation import ReferenceProblem, interpolate, is_reference
from ngdata._config.yaml_file import from_mapping, load_config_file
from ngdata.errors import ConfigError

# The file of NeuroGraph OS, without its comments.
NEUROGRAPH = """
database:
  postgres:
    enabled: true
    host: ${POSTGRES_HOST:localhost}
    port: ${POSTGRES_PORT:5432}
    database: ${POSTGRES_DB:neurograph}
    user: ${POSTGRES_USER:neurograph_user}
    password: ${POSTGRES_PASSWORD:changeme}
    pool:
      min_size: 5
      max_size: 20
      max_overflow: 10
      pool_timeout: 30
      pool_recycle: 3600
      echo: false
      echo_pool: false
    schema:
      default: public
      tokens: tokens
      graph: graph
      experience: experience
    alembic:
      script_location: "src/infrastructure/persistence/migrations"
  redis:
    enabled: true
    host: ${REDIS_HOST:localhost}
    port: ${REDIS_PORT:6379}
    db: ${REDIS_DB:0}
    password: ${REDIS_PASSWORD:}
    connection:
      max_connections: 50
      socket_keepalive: true
    cache:
      default_ttl: 3600  # 1 hour
      max_memory: "256mb"
      eviction_policy: "allkeys-lru"
      prefixes:
        token: "token:"
    keys:
      token_by_id: "token:{token_id}"
repositories:
  token:
    cache_enabled: true
performance:
  query_timeout: 30000
backup:
  schedule: "0 3 * * *"
  encryption_key: ${BACKUP_ENCRYPTION_KEY:}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file in the current directory, which is empty."""
    monkeypatch.chdir(tmp_path)

    def write_file(text):
        path = tmp_path / "database.yaml"
        path.write_text(text, "utf-8")
        return path

    return write_file


def postgres(path):
    return load_config_file(path)["database"]["postgres"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "alpha"),
        ("pre${A}fix${B}", "prealphafixb$ta"),
        ("${NONE:default}", "default"),
        ("${NONE:-default}", "default"),
        ("${EMPTY:default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NONE:}", ""),
        ("${NONE:-}", ""),
        ("${A:default}", "alpha"),
        ("${NONE:${A:x}}", "alpha"),
        ("${NONE:${NEITHER:x}}", "x"),
        ("${NONE:a-${NEITHER:-${B}}-z}", "a-b$ta-z"),
        ("${NONE:http://h:1/p}", "http://h:1/p"),
        ("${NONE:--5}", "-5"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$alpha"),
        ("${NONE:$${A}}", "${A}"),
        ("cost: 5$ and $A", "cost: 5$ and $A"),
        ("}{", "}{"),
        ("${TRICK}", "${A} $$"),
    ],
)
def test_references(text, expected):
    variables = {"A": "alpha", "B": "b$ta", "EMPTY": "", "TRICK": "${A} $$"}
    assert interpolate(text, variables) == expected


@given(st.text())
def test_any_text_can_be_written(text):
    assert interpolate(text.replace("$", "$$"), {}) == text


@given(st.text())
def test_a_variables_value_is_inserted_unchanged(value):
    assert interpolate("<${A:}>", {"A": value}) == f"<{value}>"


@pytest.mark.parametrize(
    "text", ["${", "${A", "a${A:${B}", "${}", "${1A}", "${A B}", "${ A}", "${A?b}", "${A-b}"]
)
def test_malformed_references(text):
    with pytest.raises(ReferenceProblem, match=r"\$\{"):
        interpolate(text, {"A": "a", "B": "b"})


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [("${A}", True), ("${A:${B:c}}", True), ("${A}${B}", False), (" ${A}", False), ("A", False)],
)
def test_whole_references(text, is_whole):
    assert is_reference(text) == is_whole


def test_the_file_of_neurograph_os(write):
    config = load_config_file(write(NEUROGRAPH))
    assert config["database"]["postgres"]["port"] == 5432
    assert config["database"]["redis"]["cache"]["prefixes"] == {"token": "token:"}
    settings = {name: value for name, (value, _) in from_mapping(config["database"]).items()}
    assert settings == {
        "postgres_host": "localhost",
        "postgres_port": 5432,
        "postgres_db": "neurograph",
        "postgres_user": "neurograph_user",
        "postgres_password": "changeme",
        "pool_min_size": 5,
        "pool_max_size": 20,
        "pool_timeout": 30,
        "redis_host": "localhost",
        "redis_port": 6379,
        "redis_db": 0,
        "default_ttl": 3600,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5433", 5433),
        ("-5", -5),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ("", None),
        # YAML would read other numbers or times from these, and lose the original text.
        ("007", "007"),
        ("1e3", "1e3"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("2.50", "2.50"),
        ("yes", "yes"),
        ("[1]", "[1]"),
        ("db # not a comment", "db # not a comment"),
    ],
)
def test_a_whole_reference_has_yamls_type(write, monkeypatch, value, expected):
    monkeypatch.setenv("VALUE", value)
    section = postgres(write("database: {postgres: {host: '${VALUE:}', user: 'a${VALUE:}'}}"))
    assert section["host"] == expected
    assert type(section["host"]) is type(expected)
    assert section["user"] == f"a{value}"


@pytest.mark.parametrize("value", ["007", "123", "true", "null", "1e3", " ", "a: b", "${A}", "$$"])
def test_a_password_stays_text(write, monkeypatch, value):
    monkeypatch.setenv("VALUE", value)
    password = postgres(write("database: {postgres: {password: '${VALUE}'}}"))["password"]
    assert password == value
    assert json.dumps(password) == json.dumps(value)
    assert repr(password) == "'**********'"


def test_a_user_of_digits(write, monkeypatch):
    monkeypatch.setenv("VALUE", "123")
    config = load_config_file(write("database: {postgres: {user: '${VALUE}', database: 7}}"))
    settings = from_mapping(config["database"])
    assert (settings["postgres_user"].value, settings["postgres_db"].value) == ("123", "7")


def test_the_environment_wins_over_dotenv(write, monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("FIRST=file\nSECOND=file\n")
    monkeypatch.setenv("FIRST", "environment")
    section = postgres(write("database: {postgres: {host: '${FIRST}.${SECOND}'}}"))
    assert section == {"host": "environment.file"}


def check_refusal(path, match):
    with pytest.raises(ConfigError, match=match) as caught:
        from_mapping(load_config_file(path)["database"], str(path))
    return str(caught.value)


def test_a_missing_variable(write):
    text = check_refusal(
        write("database: {redis: {host: 'a-${NOT_THERE}'}}"), "the variable NOT_THERE is not set"
    )
    assert "database.redis.host in " in text
    assert "database.yaml" in text
    assert "${NOT_THERE:default}" in text


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("database: {postgres: {prot: 1}}", r"database\.postgres\.prot in .*did you mean `port`\?"),
        ("database: {postgres: {Port: 1}}", r"did you mean `port`\?"),
        (
            "database: {postgres: {pool: {max: 1}}}",
            r"postgres\.pool\.max .*did you mean `max_size`",
        ),
        ("database: {postgres: {sslmode: require}}", r"did you mean `ssl_mode`\?"),
        ("database: {redis: {cache: {ttl: 1}}}", r"did you mean `default_ttl`\?"),
        (
            "database: {postgres: {zzz: 1}}",
            r"the known keys are alembic, application_name, connect_",
        ),
        ("database: {postgress: {}}", r"database\.postgress in .*did you mean `postgres`\?"),
        ("databse: {}", r"databse in .*did you mean `database`\?"),
        ("database: {1: 2}", r"database\.1 in "),
        ("database: {postgres: {port: [1]}}", r"database\.postgres\.port .*must be a single value"),
        ("database: {postgres: 5}", r"database\.postgres in .* must be a mapping"),
        ("database: {postgres: {pool: 5}}", r"database\.postgres\.pool in .* must be a mapping"),
        (
            "database: {postgres: {password: 5}}",
            r"postgres\.password in .* must be text; put it in quotes",
        ),
        ("database: {postgres: {db: a, database: b}}", r"postgres\.database .*mean the same"),
        ("database: {postgres: {enabled: false}}", "is false, but ngdata needs PostgreSQL"),
        ("database: {redis: {enabled: sometimes}}", "must be true or false, not 'sometimes'"),
        ("database: {postgres: {schema: {graph: mine}}}", "must be `graph`, not 'mine'"),
        ("database: text", "must be a mapping"),
        ("backup: {}", "must hold a mapping `database`"),
        ("", "must hold a mapping `database`"),
        ("- database", "must be a mapping"),
    ],
)
def test_wrong_keys(write, text, match):
    check_refusal(write(text), match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("database:\n  postgres:\n    host: a\n   port: 5\n", r"database\.yaml, line 4, column 4"),
        ("database: {postgres: {host: 'a}}", r"line 1, column \d+ is not valid YAML"),
        ("database:\n  redis: {}\n  redis: {}\n", "line 3, column 3 .*duplicate key"),
        ("database: {postgres: {host: !!python/object:os.system x}}", "is not valid YAML"),
        ("a: \x01", "characters that YAML forbids"),
    ],
)
def test_invalid_yaml(write, text, match):
    check_refusal(write(text), match)


def test_files_that_cannot_be_read(write, tmp_path):
    check_refusal(tmp_path / "none.yaml", r"none\.yaml cannot be read: No such file")
    check_refusal(tmp_path, "cannot be read: Is a directory")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"database: {postgres: {host: \xe4}}")
    check_refusal(path, "is not UTF-8 text")


def test_anchors_and_merges(write):
    text = """
    database:
      postgres: &both {host: h}
      redis: {<<: *both, port: 1}
    """
    assert load_config_file(write(text))["database"]["redis"] == {"host": "h", "port": 1}


def test_redis_can_be_disabled(write):
    path = write("database: {redis: {enabled: false, host: cache}}")
    assert from_mapping(load_config_file(path)["database"]) == {}
