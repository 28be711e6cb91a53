"""Hosts and URLs which nobody may be made to fetch, in as many spellings as we could find."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


FORBIDDEN_V4 = _words("""
    0 0.0.0.0 0.0.0.1 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.1 127.0.1 127.255.255.254
    127.0.0.1. 2130706433 017700000001 0x7f000001 0X7F000001 0x7f.1 0x7f.0.0.1 0x7F.0x0.0x0.0x1 0177.0.0.1 0177.1
    0177.0.0.01 00000177.0.0.1 127.0x0.1 127.0.0x1 127.0.0.0x1 0x7f.0.1 127.00.0.1 168.63.129.16 169.254.169.254
    169.254.170.2 2852039166 0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 025177524776 0251.0376.0251.0376 169.254.43518
    169.16689662 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1
    192.168.0.1 192.168.257 0xc0a80001 3232235521 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9
    224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 4294967295 0xffffffff 0x 0x.0x.0x.0x
    %31%32%37.0.0.1 127%2e0%2e0%2e1 %30x7f.1 127.0.0.%31 １２７.0.0.1 ①②⑦.⓪.⓪.① 127。0。0。1 127．0．0．1 127｡0｡0｡1
    𝟏𝟐𝟕.𝟎.𝟎.𝟏
    0ｘ7f.1 𝟢𝗑𝟩𝖿.1 %EF%BC%91%EF%BC%92%EF%BC%97.0.0.1 ₁₂₇.⁰.⁰.¹ 127\u00ad.0.0.1 127.0\u200b.0.1
    4294967296 256.1.1.1 127.0.0.256 127.0.0.0.1 1.2.3.4.5 09.0.0.1 127.0.0.0x7g 127.1.65536 8.8.8.0x1ff
    99999999999999999999 0x100000000 127..1 .127.0.0.1 127.0.0.1.. foo.127.0.0.1 a.0x7f 1.-1.1.1
""")
FORBIDDEN_V6 = _words("""
    :: ::1 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:0000:0001 ::0:1 0::1 ::0.0.0.1 ::127.0.0.1 ::7f00:1
    ::ffff:127.0.0.1 ::FFFF:7F00:1 0:0:0:0:0:ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe
    ::ffff:0:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::10.0.0.1 100::1 100:0:0:1::1
    2001::1 2001:0:7f00:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1::1 2002:a9fe:a9fe:: 2620:4f:8000::1 3ffe::1 3fff::1 5f00::1 fc00::1 fd00::1 fd00:ec2::254
    fd20:ce::254 fd00:c1::a9fe:a9fe fe80::1 FE80::1 fe80::a9fe:a9fe febf::1 fec0::1 ff02::1 ff0e::1 4000::1
    2600::5efe:127.0.0.1 2600::200:5efe:10.0.0.1
    fe80::1%eth0 fe80::1%25eth0 ::1%lo ::1%25lo 2600::1%251 v1.fe80 127.0.0.1 ::1%00 1::2::3 :::1 ::g ::127.1
    ::ffff:0x7f.0.0.1 %3a%3a1 ::ffff:127.0.0.1.
""")
FORBIDDEN_NAMES = _words("""
    localhost LOCALHOST localhost. LocalHost loc%61lhost ｌocalhost ⓛocalhost foo.localhost localhost.localdomain
    metadata metadata.google.internal METADATA.GOOGLE.INTERNAL. router printer.local nas.lan db.intranet x.home.arpa
    a.onion inside.shop.example INSIDE.shop.example. inside。shop。example inside%2eshop%2eexample ins%C4%B1de.local
    a..b.example .a.example a.example.. -a.example a-.example a_-.example *.example a,b.example a%00.example
    a%2F.example a%40b.example a%3A80 a%25.example a%252e.example xn--.example. %zz.example %ff.example a\u2044b.example
    a\u3002\u3002b.example ａ／ｂ.example a\u2100.example \u00df\u0301.local
""")


SPELLINGS = [*FORBIDDEN_V4, *FORBIDDEN_NAMES, *(f"[{each}]" for each in FORBIDDEN_V6)]
"""More than two hundred hosts; all of them lead inside, or are none."""

OTHER_URLS = _words(
    """
    http:// http:/// http:///a http://:80/ http://a.example:x/ http://a.example:+80/ http://a.example:-1/
    http://a.example:８０/ http://a.example:99999/ http://a.example:22/ http://a.example:6379/ http://a.example:0/
    http://a@b.example/ http://a:b@c.example/ http://@a.example/ http://a.example@127.0.0.1/
    http://a.example:80@127.0.0.1/ http://[::1/ http://::1/ http://[::1]x/ http://[::1]:x/ http://[[::1]]/ http://[]/
    http:a.example http:/a.example //a.example a.example /etc/passwd file:///etc/passwd FILE:///etc/passwd
    file://127.0.0.1/x ftp://a.example/ gopher://a.example/ dict://a.example:11211/ ldap://a.example/ jar:http://a.example
    data:image/png;base64,AA javascript:alert(1) https+x://a.example/ httpx://a.example/ view-source:http://a.example
    http://a.example\\@127.0.0.1/ http:\\\\127.0.0.1/ http://127.0.0.1\\.a.example/ http://a.example\\/
    http://127.0.0.1#@a.example/ http://127.0.0.1?@a.example/ http://127.0.0.1;a.example/
    """
)
"""URLs with another scheme, port or shape than a public file has."""
