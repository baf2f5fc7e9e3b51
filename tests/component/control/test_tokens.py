import re

import pytest

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Forbidden, Invalid, NotFound, Unauthenticated
from tracker.control.tokens import LAST_USED_STEP, Rates


class TestTokens:
    def test_a_token_is_shown_once_and_kept_as_a_hash(self, control: Control) -> None:
        """Its text names its row and carries 32 random bytes; no list and no column holds the secret."""
        info, token = control.tokens.create("ci", ["ingest"], 100, "ann")
        assert re.fullmatch(rf"mt_{info.id}_[\w-]{{43}}", token)
        secret = token.split("_", 2)[2]
        assert secret not in repr(control.tokens.list())
        assert control.tokens.list() == [info]

    def test_a_good_token_says_who_calls(self, control: Control) -> None:
        """Id, name and scopes, for the audit log."""
        info, token = control.tokens.create("ci", ["ingest", "read"], 100, "ann")
        principal = control.tokens.verify(token, "read", 200)
        assert (principal.id, principal.name, principal.scopes) == (info.id, "ci", frozenset({"ingest", "read"}))
        assert [principal.may(scope) for scope in ("ingest", "replay", "admin")] == [True, False, False]

    def test_a_missing_scope_is_forbidden_by_name(self, control: Control) -> None:
        """The error says which token lacks what."""
        info, token = control.tokens.create("ci", ["ingest"], 100, "ann")
        with pytest.raises(Forbidden, match=rf"token {info.id} \(ci\) has no scope 'replay', only ingest"):
            control.tokens.verify(token, "replay", 200)

    def test_admin_may_everything(self, control: Control) -> None:
        """It includes the other scopes."""
        _, token = control.tokens.create("root", ["admin"], 100, "ann")
        for scope in ("ingest", "read", "replay", "admin"):
            assert control.tokens.verify(token, scope, 200).name == "root"

    def test_all_bad_tokens_get_the_same_answer(self, control: Control) -> None:
        """Wrong secret, unknown id, expired, revoked, malformed: none tells which."""
        short, expired = control.tokens.create("a", ["read"], 100, "ann", expires_at=150)
        info, revoked = control.tokens.create("b", ["read"], 100, "ann")
        _, good = control.tokens.create("c", ["read"], 100, "ann")
        control.tokens.revoke(info.id, 120)
        bad = [expired, revoked, good + "x", good[:-1], f"mt_{'0' * 12}_{good.split('_', 2)[2]}"]
        bad += ["", "mt_", "mt__", "mt_é_x", "Bearer", good.upper(), f"mt_{short.id}_", "mt_x_\ud800", "mt_\0_x"]
        answers = set()
        for token in bad:
            with pytest.raises(Unauthenticated) as caught:
                control.tokens.verify(token, "read", 200)
            answers.add(str(caught.value))
        assert len(answers) == 1
        assert control.tokens.verify(expired, "read", 149).name == "a"

    def test_revoking_twice_keeps_the_first_time(self, control: Control) -> None:
        """And a revoked token stays in the list."""
        info, _ = control.tokens.create("b", ["read"], 100, "ann")
        control.tokens.revoke(info.id, 120)
        control.tokens.revoke(info.id, 130)
        assert control.tokens.list()[0].revoked_at == 120
        with pytest.raises(NotFound, match="'nobody'"):
            control.tokens.revoke("nobody", 1)

    def test_last_use_is_written_coarsely(self, control: Control) -> None:
        """Checking a token is a read, but for one write in five minutes."""
        _, token = control.tokens.create("b", ["read"], 100, "ann")
        for at in (200, 300, 200 + LAST_USED_STEP - 1):
            control.tokens.verify(token, "read", at)
            assert control.tokens.list()[0].last_used_at == 200
        control.tokens.verify(token, "read", 200 + LAST_USED_STEP)
        assert control.tokens.list()[0].last_used_at == 200 + LAST_USED_STEP

    @pytest.mark.parametrize("scopes", [[], ["write"], ["read", "root"]])
    def test_scopes_are_checked_when_a_token_is_made(self, control: Control, scopes: list[str]) -> None:
        """The error lists those that exist."""
        with pytest.raises(Invalid, match="ingest, read, replay, audit, admin"):
            control.tokens.create("x", scopes, 100, "ann")

    def test_a_token_may_have_rates_of_its_own(self, control: Control) -> None:
        """Given when it is made or later; who calls knows them. Nothing given: as all tokens."""
        info, token = control.tokens.create("b", ["ingest"], 100, "ann", rates=Rates(20, None))
        assert control.tokens.verify(token, "ingest", 200).rates == Rates(20, None)
        changed = control.tokens.limit(info.id, Rates(None, 0))
        assert (changed.rate_events, changed.rate_bytes) == (None, 0)
        assert control.tokens.verify(token, "ingest", 200).rates == Rates(None, 0)
        _, usual = control.tokens.create("c", ["ingest"], 100, "ann")
        assert control.tokens.verify(usual, "ingest", 200).rates == Rates()
        with pytest.raises(NotFound, match="'nobody'"):
            control.tokens.limit("nobody", Rates())

    @pytest.mark.parametrize(
        "rates", [Rates(-1), Rates(None, -0.5), Rates(float("nan")), Rates(None, float("inf")), Rates(5e-324)]
    )
    def test_what_is_no_rate_is_refused(self, control: Control, rates: Rates) -> None:
        """When a token is made, and later; it keeps what it had."""
        info, _ = control.tokens.create("b", ["ingest"], 100, "ann", rates=Rates(7))
        with pytest.raises(Invalid, match="is no rate"):
            control.tokens.limit(info.id, rates)
        with pytest.raises(Invalid, match="is no rate"):
            control.tokens.create("c", ["ingest"], 100, "ann", rates=rates)
        assert [one.rate_events for one in control.tokens.list()] == [7]

    def test_a_token_born_dead_is_refused(self, control: Control) -> None:
        """An expiry in the past is a mistake."""
        with pytest.raises(Invalid, match="expire before"):
            control.tokens.create("x", ["read"], 100, "ann", expires_at=100)


class TestBootstrap:
    def test_the_first_start_gives_an_admin_token_and_the_next_none(self, control: Control) -> None:
        """Whoever starts a new installation can get in."""
        token = control.tokens.bootstrap(100)
        assert token is not None
        assert control.tokens.verify(token, "admin", 200).name == "bootstrap"
        assert control.tokens.bootstrap(300) is None

    def test_when_no_admin_is_left_there_is_a_way_back_in(self, control: Control) -> None:
        """Revoked, expired and lesser tokens do not count."""
        control.tokens.create("ci", ["ingest"], 100, "ann")
        info, _ = control.tokens.create("root", ["admin"], 100, "ann", expires_at=200)
        assert control.tokens.bootstrap(150) is None
        assert control.tokens.bootstrap(200) is not None
        control.tokens.revoke(info.id, 210)
        assert control.tokens.bootstrap(220) is None

    def test_trackers_that_start_together_make_one(self, control: Control) -> None:
        """One of them prints it."""
        made = together(5, lambda _: control.tokens.bootstrap(100))
        assert sum(token is not None for token in made) == 1
