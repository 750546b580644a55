"""The browser harness sees what it is there to see."""


def page(folder, body):
    path = folder / "page.html"
    path.write_text(f"<!doctype html><html lang='en'><title>t</title><main><h1>t</h1>{body}</main></html>", "utf-8")
    return path.as_uri()


def test_a_good_page_has_nothing_against_it(visit, tmp_path):
    seen = visit(page(tmp_path, "<p>good</p>"))
    assert (seen.errors, seen.outside, seen.violations(), seen.overflow()) == ([], [], [], 0)


def test_what_is_wrong_is_seen(visit, serve, tmp_path):
    page(tmp_path, "<img src='http://127.0.0.2:9/x.png'><p style='width:9999px'>wide</p><script>nothing()</script>")
    seen = visit(f"{serve(tmp_path)}/page.html")
    assert any("nothing is not defined" in error for error in seen.errors)
    assert seen.outside == ["http://127.0.0.2:9/x.png"]
    assert any(rule == "image-alt" for rule, *_ in seen.violations())
    assert seen.overflow() > 8000
