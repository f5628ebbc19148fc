"""The project's pages in Chromium, by Playwright, with axe-core's checks of what hinders people.

Without Playwright (requirements-browser.txt), Chromium ($CHROMIUM, else ``chromium`` on the path)
or axe-core (its ``axe.min.js``, in $AXE_CORE) the tests are skipped; ``.ci/run`` installs them.
"""
