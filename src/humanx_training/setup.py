from setuptools import find_packages, setup

package_name = 'humanx_training'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    package_data={package_name: ['xmimic/sim/native/*.c']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='XGen makes interaction clips from videos and motion files; XMimic trains policies on them.',
    license='Apache-2.0',
    extras_require={'test': ['pytest']},
)
