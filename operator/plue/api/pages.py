"""What our few pages have in common: no script, no address but our own, light and dark."""

from aiohttp import web

__all__ = ["FORM", "page"]

FORM = "application/x-www-form-urlencoded"

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>:root{{color-scheme:light dark}}
body{{font:16px/1.6 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;
overflow-wrap:anywhere}}
h1{{line-height:1.2}}
.b,input,select{{font:inherit;padding:.4rem .8rem;border:1px solid;border-radius:.4rem;
background:none;color:inherit}}
.b{{text-decoration:none;cursor:pointer}}
select{{background:Canvas}}
form label{{display:inline-block;vertical-align:bottom;margin:0 .4rem .8rem 0}}
input{{width:8rem;box-sizing:border-box}}input,select{{height:2.6rem}}
form label *{{display:block;max-width:100%}}
.note{{border-left:.25rem solid #c80;padding-left:.75rem}}
table{{border-collapse:collapse;width:100%}}
td,th{{padding:.2rem .4rem;text-align:left;font-weight:400;border-top:1px solid #8884}}
td,.n{{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}}
th[scope=rowgroup]{{font-weight:600;padding-top:1rem;border-top:0}}
@media(max-width:30rem){{body{{margin-top:1.5rem}}td,th{{font-size:.875rem;padding:.2rem}}}}
</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def page(title: str, body: str, *, status: int = 200) -> web.Response:
    """Return a page; both parts are HTML already."""
    # Browsers send the Origin `null` with the forms of pages that have no referrer even for us.
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}
    text = _PAGE.format(title=title, body=body)
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)
