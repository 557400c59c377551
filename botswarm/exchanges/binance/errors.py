"""Binance's error codes in one table: what each one says about the order it answers."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.exchanges.meaning import Meaning

DUPLICATE = "Duplicate order sent."

_M = Meaning
_CODES: Mapping[Meaning, str] = {
    _M.NOT_PLACED: """
        -1002 UNAUTHORIZED
        -1010 ERROR_MSG_RECEIVED
        -1013 INVALID_MESSAGE
        -1014 UNKNOWN_ORDER_COMPOSITION
        -1020 UNSUPPORTED_OPERATION
        -1022 INVALID_SIGNATURE
        -1033 COMP_ID_IN_USE
        -1034 TOO_MANY_CONNECTIONS
        -1035 LOGGED_OUT
        -1100 ILLEGAL_CHARS
        -1101 TOO_MANY_PARAMETERS
        -1102 MANDATORY_PARAM_EMPTY_OR_MALFORMED
        -1103 UNKNOWN_PARAM
        -1104 UNREAD_PARAMETERS
        -1105 PARAM_EMPTY
        -1106 PARAM_NOT_REQUIRED
        -1108 PARAM_OVERFLOW
        -1111 BAD_PRECISION
        -1112 NO_DEPTH
        -1114 TIF_NOT_REQUIRED
        -1115 INVALID_TIF
        -1116 INVALID_ORDER_TYPE
        -1117 INVALID_SIDE
        -1118 EMPTY_NEW_CL_ORD_ID
        -1119 EMPTY_ORG_CL_ORD_ID
        -1120 BAD_INTERVAL
        -1121 BAD_SYMBOL
        -1122 INVALID_SYMBOLSTATUS
        -1125 INVALID_LISTEN_KEY
        -1127 MORE_THAN_XX_HOURS
        -1128 OPTIONAL_PARAMS_BAD_COMBO
        -1130 INVALID_PARAMETER
        -1134 BAD_STRATEGY_TYPE
        -1135 INVALID_JSON
        -1139 INVALID_TICKER_TYPE
        -1145 INVALID_CANCEL_RESTRICTIONS
        -1151 DUPLICATE_SYMBOLS
        -1152 INVALID_SBE_HEADER
        -1153 UNSUPPORTED_SCHEMA_ID
        -1155 SBE_DISABLED
        -1158 OCO_ORDER_TYPE_REJECTED
        -1160 OCO_ICEBERGQTY_TIMEINFORCE
        -1161 DEPRECATED_SCHEMA
        -1165 BUY_OCO_LIMIT_MUST_BE_BELOW
        -1166 SELL_OCO_LIMIT_MUST_BE_ABOVE
        -1167 (documented without a name)
        -1168 BOTH_OCO_ORDERS_CANNOT_BE_LIMIT
        -1169 INVALID_TAG_NUMBER
        -1170 TAG_NOT_DEFINED_IN_MESSAGE
        -1171 TAG_APPEARS_MORE_THAN_ONCE
        -1172 TAG_OUT_OF_ORDER
        -1173 GROUP_FIELDS_OUT_OF_ORDER
        -1174 INVALID_COMPONENT
        -1175 RESET_SEQ_NUM_SUPPORT
        -1176 ALREADY_LOGGED_IN
        -1177 GARBLED_MESSAGE
        -1178 BAD_SENDER_COMPID
        -1179 BAD_SEQ_NUM
        -1180 EXPECTED_LOGON
        -1182 PARAMS_BAD_COMBO
        -1183 NOT_ALLOWED_IN_DROP_COPY_SESSIONS
        -1184 DROP_COPY_SESSION_NOT_ALLOWED
        -1185 DROP_COPY_SESSION_REQUIRED
        -1186 NOT_ALLOWED_IN_ORDER_ENTRY_SESSIONS
        -1187 NOT_ALLOWED_IN_MARKET_DATA_SESSIONS
        -1188 INCORRECT_NUM_IN_GROUP_COUNT
        -1189 DUPLICATE_ENTRIES_IN_A_GROUP
        -1190 INVALID_REQUEST_ID
        -1191 TOO_MANY_SUBSCRIPTIONS
        -1194 INVALID_TIME_UNIT
        -1196 BUY_OCO_STOP_LOSS_MUST_BE_ABOVE
        -1197 SELL_OCO_STOP_LOSS_MUST_BE_BELOW
        -1198 BUY_OCO_TAKE_PROFIT_MUST_BE_BELOW
        -1199 SELL_OCO_TAKE_PROFIT_MUST_BE_ABOVE
        -1210 INVALID_PEG_PRICE_TYPE
        -1211 INVALID_PEG_OFFSET_TYPE
        -1220 SYMBOL_DOES_NOT_MATCH_STATUS
        -1221 INVALID_SBE_MESSAGE_FIELD
        -1222 OPO_WORKING_MUST_BE_BUY
        -2010 NEW_ORDER_REJECTED
        -2014 BAD_API_KEY_FMT
        -2015 REJECTED_MBX_KEY
        -2016 NO_TRADING_WINDOW
        -2035 SUBSCRIPTION_ACTIVE
        -2036 SUBSCRIPTION_INACTIVE
        -2038 ORDER_AMEND_REJECTED
        -2039 CLIENT_ORDER_ID_INVALID
        -2042 MAXIMUM_SUBSCRIPTION_IDS
    """,
    # Too much, too many, or signed for a moment that has passed.
    _M.LATER: """
        -1003 TOO_MANY_REQUESTS
        -1015 TOO_MANY_ORDERS
        -1021 INVALID_TIMESTAMP
        -1181 TOO_MANY_MESSAGES
    """,
    # Some of these say that nothing was done; asking costs little and being wrong costs an order.
    # Of cancelling and replacing in one the new order may or may not be there; an order that
    # could not be cancelled has gone, or was never there.
    _M.UNKNOWN: """
        -1000 UNKNOWN
        -1001 DISCONNECTED
        -1006 UNEXPECTED_RESP
        -1007 TIMEOUT
        -1008 SERVER_BUSY
        -1016 SERVICE_SHUTTING_DOWN
        -2011 CANCEL_REJECTED
        -2021 ORDER_CANCEL_REPLACE_PARTIALLY_FAILED
        -2022 ORDER_CANCEL_REPLACE_FAILED
    """,
    _M.NOT_FOUND: """
        -2013 NO_SUCH_ORDER
    """,
    _M.ENDED: """
        -2026 ORDER_ARCHIVED
    """,
}
NAMES: Mapping[int, str] = {
    int(code): name
    for lines in _CODES.values()
    for code, _, name in (line.strip().partition(" ") for line in lines.strip().splitlines())
}
"""The venue's own, of every code that it documents."""
MEANING: Mapping[int, Meaning] = {
    int(line.split()[0]): meaning
    for meaning, lines in _CODES.items()
    for line in lines.strip().splitlines()
}
"""A code that is not here is unknown."""
STATUSES: Mapping[int, Meaning] = {
    # The firewall and the rate limiter stand before everything else.
    403: _M.LATER,
    418: _M.LATER,
    429: _M.LATER,
}


def meaning_of(status: int, code: int | None, message: str) -> Meaning:
    """What an answer that is no success says; whatever is in doubt is unknown."""
    if status >= 500 or status < 400:
        return _M.UNKNOWN
    if status in STATUSES:
        return STATUSES[status]
    if code is None or message == DUPLICATE:
        # A duplicate is good news: an order of this client id is live, so ask for it.
        return _M.UNKNOWN
    return MEANING.get(code, _M.UNKNOWN)
