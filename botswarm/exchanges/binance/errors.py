"""Binance's error codes in one table: what each one says about the order it answers."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.exchanges.meaning import Meaning

DUPLICATE = "Duplicate order sent."

_M = Meaning
_NOT_PLACED = (
    # General: the request was refused before the matching engine saw it.
    *(-1002, -1013, -1014, -1020, -1022),
    # Sessions of other protocols; an order request they answer was not taken.
    *(-1033, -1034, -1035),
    # Request issues, one by one as documented: a code that is not here is unknown.
    *(-1100, -1101, -1102, -1103, -1104, -1105, -1106, -1108, -1111, -1112, -1114, -1115),
    *(-1116, -1117, -1118, -1119, -1120, -1121, -1122, -1125, -1127, -1128, -1130, -1134),
    *(-1135, -1139, -1145, -1151, -1152, -1153, -1155, -1158, -1160, -1161, -1165, -1166),
    *(-1167, -1168, -1169, -1170, -1171, -1172, -1173, -1174, -1175, -1176, -1177, -1178),
    *(-1179, -1180, -1182, -1183, -1184, -1185, -1186, -1187, -1188, -1189, -1190),
    *(-1191, -1194, -1196, -1197, -1198, -1199, -1210, -1211, -1220, -1221, -1222),
    # The matching engine's refusal, the key's, and those of calls that place nothing.
    *(-1010, -2010, -2014, -2015, -2016, -2035, -2036, -2038, -2039, -2042),
)
MEANING: Mapping[int, Meaning] = {
    **dict.fromkeys(_NOT_PLACED, _M.NOT_PLACED),
    # Too much, too many, or signed for a moment that has passed.
    **dict.fromkeys((-1003, -1015, -1021, -1181), _M.LATER),
    # Some of these say that nothing was done; asking costs little and being wrong costs an order.
    **dict.fromkeys((-1000, -1001, -1006, -1007, -1008, -1016), _M.UNKNOWN),
    # Of cancelling and replacing in one: the new order may or may not be there.
    **dict.fromkeys((-2021, -2022), _M.UNKNOWN),
    # The order to cancel has gone, or was never there.
    -2011: _M.UNKNOWN,
    -2013: _M.NOT_FOUND,
    -2026: _M.ENDED,
}


def meaning_of(status: int, code: int | None, message: str) -> Meaning:
    """What an answer that is no success says; whatever is in doubt is unknown."""
    if status >= 500 or status < 400:
        return _M.UNKNOWN
    if status in (403, 418, 429):
        # The firewall and the rate limiter stand before everything else.
        return _M.LATER
    if code is None or message == DUPLICATE:
        # A duplicate is good news: an order of this client id is live, so ask for it.
        return _M.UNKNOWN
    return MEANING.get(code, _M.UNKNOWN)
