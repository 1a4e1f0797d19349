"""What wallets sign in readable form, held against the official SDK's own signer."""

from __future__ import annotations

import eth_account
import pytest
from hyperliquid.utils import signing
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.venue.exchange.user_signed import USER_SIGNED, user_signed_digest
from zq_daemon.venue.hyperliquid.sign import recover_address

KEYS = st.integers(1, (1 << 255) - 1).map(lambda number: f"0x{number:064x}")
U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(max_size=30)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
SENT = {"amount": TEXT, "time": U64}
SIGNERS = {
    "approveAgent": (
        signing.sign_agent,
        {"agentAddress": ADDRESSES, "agentName": TEXT, "nonce": U64},
    ),
    "usdSend": (signing.sign_usd_transfer_action, {"destination": ADDRESSES, **SENT}),
    "spotSend": (
        signing.sign_spot_transfer_action,
        {"destination": ADDRESSES, "token": TEXT, **SENT},
    ),
    "withdraw3": (signing.sign_withdraw_from_bridge_action, {"destination": ADDRESSES, **SENT}),
    "usdClassTransfer": (
        signing.sign_usd_class_transfer_action,
        {"amount": TEXT, "toPerp": st.booleans(), "nonce": U64},
    ),
    "sendAsset": (
        signing.sign_send_asset_action,
        {
            "destination": ADDRESSES,
            "sourceDex": TEXT,
            "destinationDex": TEXT,
            "token": TEXT,
            "amount": TEXT,
            "fromSubAccount": TEXT,
            "nonce": U64,
        },
    ),
    "approveBuilderFee": (
        signing.sign_approve_builder_fee,
        {"maxFeeRate": TEXT, "builder": ADDRESSES, "nonce": U64},
    ),
}


def recovered(action: dict, signature: dict) -> str:
    numbers = (int(signature["r"], 16), int(signature["s"], 16), signature["v"])
    return recover_address(user_signed_digest(action), *numbers)


def test_every_documented_type_is_compared():
    assert SIGNERS.keys() == USER_SIGNED.keys()


@pytest.mark.parametrize("kind", SIGNERS)
@given(data=st.data())
def test_the_sdk_signs_what_is_recovered(kind, data):
    sign, fields = SIGNERS[kind]
    wallet = eth_account.Account.from_key(data.draw(KEYS))
    action = {"type": kind} | {name: data.draw(values) for name, values in fields.items()}
    signature = sign(wallet, action, data.draw(st.booleans()))
    assert recovered(action, signature) == wallet.address.lower()
    action["hyperliquidChain"] += "?"
    assert recovered(action, signature) != wallet.address.lower()


@pytest.mark.parametrize("left_out", [{}, {"agentName": None}])
def test_an_agent_without_a_name_is_signed_with_an_empty_one(left_out):
    wallet = eth_account.Account.from_key("0x" + "1" * 64)
    action = {"type": "approveAgent", "agentAddress": wallet.address, "agentName": "", "nonce": 5}
    signature = signing.sign_agent(wallet, action, False)
    del action["agentName"]
    assert recovered(action | left_out, signature) == wallet.address.lower()


@pytest.mark.parametrize(
    "change",
    [
        {"signatureChainId": None},
        {"signatureChainId": "66eee"},
        {"signatureChainId": "0xzz"},
        {"signatureChainId": "0x" + "f" * 40},
        {"hyperliquidChain": 5},
        {"agentAddress": "0x12"},
        {"agentName": ["x"]},
        {"agentName": "\ud800"},
        {"nonce": -1},
        {"nonce": 1 << 64},
        {"nonce": True},
        {"nonce": "5"},
    ],
)
def test_what_does_not_fit_its_type_is_refused(change):
    action = {
        "type": "approveAgent",
        "signatureChainId": "0x66eee",
        "hyperliquidChain": "Testnet",
        "agentAddress": "0x" + "a" * 40,
        "agentName": "",
        "nonce": 5,
    }
    assert len(user_signed_digest(action)) == 32
    with pytest.raises(ValueError):
        user_signed_digest(action | change)
    with pytest.raises(ValueError, match="missing"):
        user_signed_digest({"type": "usdSend", "signatureChainId": "0x1"})
    with pytest.raises(ValueError):
        user_signed_digest(
            {
                "type": "usdClassTransfer",
                "signatureChainId": "0x1",
                "hyperliquidChain": "Testnet",
                "amount": "1",
                "toPerp": 1,
                "nonce": 5,
            }
        )
