"""What Android's `dumpsys battery|thermalservice|power|deviceidle` print, by Android version.

Shapes of AOSP's BatteryService.dumpInternal, ThermalManagerService.dumpInternal, RemoteCallbackList.dump,
PowerManagerService.dumpInternal and DeviceIdleController.dump (frameworks/base), Android 10 to 16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phone_body import Body

ANDROID_10, ANDROID_11, ANDROID_13, ANDROID_14, ANDROID_15 = 29, 30, 33, 34, 35


def battery_text(body: Body, sdk: int) -> str:
    """`dumpsys battery`: temperature in tenths of °C, voltage in mV."""
    rows = [f"{name} powered: {_bool(body.plugged == key)}" for name, key in _plugs(sdk)]
    rows += [
        f"Max charging current: {500000 if body.plugged else 0}",
        f"Max charging voltage: {5000000 if body.plugged else 0}",
        f"Charge counter: {body.battery_level * 43000}",
        f"status: {body.battery_status}",
        "health: 2",
        "present: true",
        f"level: {body.battery_level}",
        "scale: 100",
        f"voltage: {body.voltage_mv}",
        f"temperature: {round(body.battery_c * 10)}",
        "technology: Li-ion",
    ]
    if sdk >= ANDROID_14:
        rows += ["Charging state: 1", "Charging policy: 1"]
    if sdk >= ANDROID_15:
        rows.append("Capacity level: -1")
    return "Current Battery Service state:\n" + "".join(f"  {row}\n" for row in rows)


def thermal_text(body: Body, sdk: int) -> str:
    """`dumpsys thermalservice`. The cached temperatures are old ones, as they are on phones: they are wrong here."""
    status, hal = body.thermal_status, "AIDL 2 " if sdk >= ANDROID_14 else "2.0"
    lines = ["IsStatusOverride: false"]
    for name, callbacks in (("ThermalEventListeners", 4), ("ThermalStatusListeners", 7)):
        lines += [f"{name}:", f"\tcallbacks: {callbacks}", "\tkilled: false", "\tbroadcasts count: -1"]
    lines += [f"Thermal Status: {status}", "Cached temperatures:"]
    lines += [_temperature(99.0, 3, "VIRTUAL-SKIN", status), _temperature(25.0, 2, "battery", 0)]
    lines.append(f"HAL Ready: {_bool(body.hal_ready)}")
    if body.hal_ready:
        lines += ["HAL connection:", f"\tThermalHAL {hal} connected: yes", "Current temperatures from HAL:"]
        lines += [
            _temperature(body.skin_c, 3, "VIRTUAL-SKIN", status),
            _temperature(body.battery_c, 2, "battery", 0),
            _temperature(body.cpu_c - 1.5, 0, "LITTLE", 0),
            _temperature(body.cpu_c, 0, "BIG", 0),
            _temperature(body.gpu_c, 1, "G3D", 0),
            "\tTemperature{mValue=NaN, mType=9, mName=TPU, mStatus=0}",
        ]
        lines += ["Current cooling devices from HAL:", "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}"]
        if sdk >= ANDROID_11:
            never = ", ".join(["NaN"] * 7)
            lines += [
                "Temperature static thresholds from HAL:",
                "\tTemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds="
                f"[NaN, 39.0, 43.0, 45.0, 47.0, 51.5, 56.0], mColdThrottlingThresholds=[{never}]}}",
            ]
    if sdk >= ANDROID_15:
        lines += ["Temperature headroom thresholds:", "[NaN, 0.8666667, 1.0, NaN, NaN, NaN, NaN]"]
    return "\n".join(lines) + "\n"


def power_text(body: Body) -> str:
    """`dumpsys power`, the parts that tell of wakefulness; {…} is filled in by the phone's own dumpsys."""
    plug = {"ac": 1, "usb": 2, "wireless": 4, "dock": 8}.get(body.plugged, 0)
    return (
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  Settings power_manager_constants:\n"
        "    no_cached_wake_locks=true\n  mDirty=0x0\n  mWakefulness={wakefulness}\n  mWakefulnessChanging=false\n"
        f"  mIsPowered={_bool(bool(plug))}\n  mPlugType={plug}\n  mBatteryLevel={body.battery_level}\n"
        "  mDockState=0\n  mStayOn={stay_on}\n  mBootCompleted=true\n  mSystemReady=true\n\n"
        "Settings and Configuration:\n  mStayOnWhilePluggedInSetting={setting}\n"
    )


def deviceidle_text() -> str:
    """The end of `dumpsys deviceidle` on a phone in use."""
    return (
        "  Settings:\n    flex_time_short=+1m0s0ms\n  mLightEnabled=true  mDeepEnabled=true\n"
        "  mForceIdle=false\n  mUseMotionSensor=true\n  mScreenOn=true\n  mScreenLocked=false\n"
        "  mNetworkConnected=true\n  mCharging=true\n  mMotionActive=false\n  mState=ACTIVE mLightState=ACTIVE\n"
    )


def _plugs(sdk: int) -> list[tuple[str, str]]:
    plugs = [("AC", "ac"), ("USB", "usb"), ("Wireless", "wireless")]
    return [*plugs, ("Dock", "dock")] if sdk >= ANDROID_13 else plugs


def _temperature(value_c: float, kind: int, name: str, status: int) -> str:
    # Java prints a float in full: 31.2, 31.249998.
    return f"\tTemperature{{mValue={round(value_c, 3)}, mType={kind}, mName={name}, mStatus={status}}}"


def _bool(value: bool) -> str:
    return "true" if value else "false"
