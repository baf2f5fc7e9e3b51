from tests.component.control.running import together
from tracker.control import Control


class TestSettings:
    def test_a_setting_is_kept_and_replaced(self, control: Control) -> None:
        """None where there is none."""
        assert control.settings.get("a") is None
        control.settings.put("a", "1")
        control.settings.put("a", "2")
        assert control.settings.get("a") == "2"

    def test_the_salt_is_made_once_for_all_trackers(self, control_url: str, control: Control) -> None:
        """Threads and processes that ask first at the same moment, and after a restart, get the same 32 bytes."""
        salts = set(together(6, lambda _: control.settings.salt()))
        with Control.open(control_url) as other:
            salts.add(other.settings.salt())
        assert [len(salt) for salt in salts] == [32]
