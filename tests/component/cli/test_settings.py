import pytest

from tracker.cli.errors import CommandError
from tracker.cli.settings import ClientSettings, ServiceSettings, client_settings, described, service_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """No setting comes from the machine that runs the tests."""
    for kind in (ClientSettings, ServiceSettings):
        for name, _, _ in described(kind):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_everything_has_a_place(tmp_path):
    """The ledger lies in ./var, the control database beside it, the service on this machine."""
    settings = service_settings()
    assert settings.store_url == f"chdb://{tmp_path}/var/ledger"
    assert settings.control_url == f"sqlite:///{tmp_path}/var/ledger.control.db"
    assert client_settings().url == "http://127.0.0.1:8000"


def test_the_control_database_follows_the_store(monkeypatch, tmp_path):
    """Beside an embedded ledger's folder, unless it is set; a server's ledger keeps it in ./var."""
    monkeypatch.setenv("TRACKER_STORE", "chdb:///data/ledger")
    assert service_settings().control_url == "sqlite:////data/ledger.control.db"
    monkeypatch.setenv("TRACKER_STORE", "clickhouse://127.0.0.1/db")
    assert service_settings().control_url == f"sqlite:///{tmp_path}/var/control.db"
    monkeypatch.setenv("TRACKER_CONTROL", "postgresql://h/db")
    assert service_settings().control_url == "postgresql://h/db"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TRACKER_COMMIT_ROWS", "many", "TRACKER_COMMIT_ROWS='many'"),
        ("TRACKER_DURABILITY", "maybe", "TRACKER_DURABILITY='maybe'"),
        ("TRACKER_PASS_INTERVAL_S", "-1", "TRACKER_PASS_INTERVAL_S='-1'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(monkeypatch, name, value, words):
    """The error says which variable and what it holds."""
    monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=words):
        service_settings()


def test_a_url_that_is_none_is_told(monkeypatch):
    """A client needs http or https and a host."""
    monkeypatch.setenv("TRACKER_URL", "localhost:8000")
    with pytest.raises(CommandError, match="TRACKER_URL='localhost:8000'"):
        client_settings()


def test_a_token_is_never_shown(monkeypatch):
    """Neither by the settings' own text nor in an error."""
    monkeypatch.setenv("TRACKER_TOKEN", "mt_a_secret")
    assert "secret" not in repr(client_settings())
    assert client_settings().token.get_secret_value() == "mt_a_secret"


def test_an_empty_variable_is_an_absent_one(monkeypatch):
    """TRACKER_HOPS= in a file of settings means none."""
    monkeypatch.setenv("TRACKER_HOPS", "")
    assert service_settings().hops is None
